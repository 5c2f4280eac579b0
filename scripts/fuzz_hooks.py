"""Hooks of schemathesis for `fuzz_api.py`: who asks, and for what there is. Runs in schemathesis' own environment.

Made-up numbers are numbers of nothing, so three of four requests get those of things that are there; but never requests
that delete. What only a signed-in browser may do is asked by one that has just signed in.
"""

import itertools
import json
import os
import time
import urllib.request
from pathlib import Path

import schemathesis

KNOWN = json.loads(os.environ["FUZZ_KNOWN"])
"""Address, token, name, password, numbers of things and secrets of links by kind, and a file in which times are kept."""
BROWSER = ("/api/account", "/api/session")
TURNS = itertools.count()
LAST = {"at": time.monotonic()}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Say who asks, and give numbers of what there is."""
    path, method = case.operation.path, case.operation.method.upper()
    case.headers = dict(case.headers or {})
    if path.startswith(BROWSER) and (method, path) != ("POST", "/api/session"):
        case.headers |= browser()
    else:
        case.headers["Authorization"] = f"Bearer {KNOWN['token']}"
    if next(TURNS) % 4 and method != "DELETE":
        case.path_parameters = dict(case.path_parameters or {}) | there(path, case.path_parameters or {})
    note(f"> {method} {case.formatted_path!r}, after {rest():.3f} s of rest")


@schemathesis.hook
def after_call(context, case, response):
    """Note what was answered, and when."""
    note(f"< {response.status_code} {case.operation.method.upper()} {case.operation.path}, within {rest():.3f} s")


def browser():
    """Headers of one that signs in now."""
    body = json.dumps({"name": KNOWN["name"], "password": KNOWN["password"]}).encode()
    asked = urllib.request.Request(f"{KNOWN['address']}/api/session", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=20) as answer:
        cookie = answer.headers["Set-Cookie"].split(";")[0]
        return {"Cookie": cookie, "X-CSRF-Token": json.loads(answer.read())["csrf"]}


def there(path, parameters):
    """Values of parameters that there is something for."""
    pieces = [*path.split("/"), ""]
    shared = "link" in parameters
    kind = pieces[4] if shared and len(pieces) > 4 else "jobs" if shared else pieces[2]
    known = {"link": KNOWN["links"].get(kind), "number": KNOWN["numbers"].get(kind), "file": KNOWN["file"],
             "frame": 0, "structure": 0, "id": KNOWN["upload"]}  # fmt: skip
    return {name: known[name] for name in parameters if known.get(name) is not None}


def rest():
    """Seconds since this was last asked."""
    before, LAST["at"] = LAST["at"], time.monotonic()
    return LAST["at"] - before


def note(what):
    """Write down what is sent and answered, and how long nothing was: servers close connections that rest."""
    with Path(KNOWN["sent"]).open("a", encoding="utf-8") as file:
        file.write(what + "\n")
