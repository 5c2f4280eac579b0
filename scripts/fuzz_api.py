"""Ask every route of the platform with made-up requests.

An answer of 500 or more is a bug; so is a connection that breaks, and a route that never answers but with 401 or 403,
since nothing of it was tried.

`python scripts/fuzz_api.py [EXAMPLES [DATABASE]]` needs schemathesis (`pip install schemathesis`, best into an
environment of its own: SCHEMATHESIS=/path/to/schemathesis). It starts a platform in a temporary folder, or on an empty
database of PostgreSQL, with one of everything.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import uvicorn
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "server"))
from platform_site import PASSWORD, make_site, ok  # noqa: E402
from test_datasets import added  # noqa: E402
from test_everybody_apart import fill  # noqa: E402
from test_files_of_users import copper  # noqa: E402

from rutile.jobs.folder import FILES  # noqa: E402
from rutile.jobs.safe_files import identity  # noqa: E402
from rutile.jobs.tables import ApiToken, Job, User  # noqa: E402
from rutile.server.secrets import TOKEN, kept_of, new_secret  # noqa: E402
from rutile.server.serve import REST, listening  # noqa: E402
from rutile.server.settings import ServeSettings  # noqa: E402

PROGRAM = os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")
HOOKS = Path(__file__).with_name("fuzz_hooks.py")
PATIENCE = 400
"""Seconds for an answer: those that read a file in a child may take 260 of them where much else is done; a client that
gives up before them takes that for a connection that broke."""
WORDS = ["--checks=not_a_server_error", "--phases=coverage,fuzzing", "--continue-on-failure", f"--request-timeout={PATIENCE}",
         "--suppress-health-check=all", "--no-color", "--warnings=off"]  # fmt: skip
REFUSED = {"401", "403"}
NAMES = {"job": "jobs", "search": "searches", "dataset": "datasets", "model": "models", "structure": "structures"}


def furnished(site, folder):
    """Put one of everything into a platform, ben's, with links to it; what requests may name of it."""
    fill(site)
    ben = site.page("ben")
    ok(ben.delete("/api/datasets/1"), 204)
    data, _ = added(site, ben, folder)
    (site.platform.home.job(1) / FILES / "cu.extxyz").write_bytes(copper(folder)[0])
    secret = TOKEN + new_secret()
    with site.platform.database.writing() as session:
        users = {user.name: user.id for user in session.query(User)}
        made = {"owner_id": users["ben"], "created": 0.0, "settings": {}, "key": "k", "state": "DONE"}
        session.add(Job(id=2, name="found", task="search", **made))
        rights = ["read", "submit", "admin"]
        row = {"user_id": users["ada"], "name": "t", "created": time.time(), "scopes": rights}
        session.add(ApiToken(secret=kept_of(secret), **row))
        if not site.platform.database.lite:  # numbers that were given are not counted there
            for name in ("jobs", "models", "structures"):
                session.execute(text(f"SELECT setval('{name}_id_seq', 10)"))
    numbers = {"jobs": 1, "searches": 2, "datasets": data["id"], "models": 1, "structures": 1, "admin": users["eve"]}
    links = {}
    for kind, name in NAMES.items():
        made = ok(ben.post("/api/shares", json={"kind": kind, "number": numbers[name]}), 201)
        links[name] = made["link"].rsplit("/", 1)[1]
    return {"token": secret, "name": "ben", "password": PASSWORD, "numbers": numbers, "links": links,
            "file": identity("cu.extxyz"), "upload": "a" * 24, "sent": str(folder / "sent.txt")}  # fmt: skip


def main(examples: int, database: str = "") -> int:
    """Serve, ask, and look at what was answered; the exit code."""
    if PROGRAM is None:
        print("no schemathesis here: pip install schemathesis, or SCHEMATHESIS=/path/to/it")
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = make_site(folder / "home", database=database)
        known = furnished(site, folder)
        description = folder / "openapi.json"
        description.write_text(json.dumps(site.app.openapi()))
        socket = listening(ServeSettings(port=0))
        config = uvicorn.Config(site.app, log_level="error", timeout_keep_alive=REST)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
        thread.start()
        known["address"] = site.platform.address = f"http://127.0.0.1:{socket.getsockname()[1]}"
        words = [PROGRAM, "run", str(description), "-u", known["address"], *WORDS, "-n", str(examples)]
        told = {"SCHEMATHESIS_HOOKS": HOOKS.stem, "FUZZ_KNOWN": json.dumps(known), "PYTHONPATH": str(HOOKS.parent)}
        code = subprocess.run(words, check=False, env=os.environ | told).returncode
        server.should_exit = True
        thread.join(timeout=30)
        found = findings(Path(known["sent"]).read_text(encoding="utf-8").splitlines())
    for line in found:
        print(line)
    return code or bool(found)


def findings(lines):
    """Requests without an answer, and routes that answered nothing but 401 or 403."""
    codes: dict[str, set[str]] = {}
    out, open_one = [], ""
    for line in [*lines, "> the end"]:
        if line.startswith("> "):
            out += [f"no answer: {open_one}"] if open_one else []
            open_one = line[2:] if line != "> the end" else ""
        elif match := re.fullmatch(r"< (\d+) (.*), within .* s", line):
            codes.setdefault(match[2], set()).add(match[1])
            open_one = ""
    return out + [f"only refused: {name}" for name, seen in sorted(codes.items()) if seen <= REFUSED]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 25, *sys.argv[2:3]))
