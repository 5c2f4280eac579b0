"""What the description of the API says beside OpenAPI is so: scopes, calls of `rutile.Client`, recipes."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from platform_site import ok
from test_everybody_apart import asked, fill
from test_serve import SOURCE, served, token_of

import rutile
from rutile.server.description import CALLS
from rutile.server.recipes import RECIPES

REFUSALS = {
    "submit": "this token may only read",
    "admin": "only administrators may do this",
    "browser": "a token cannot do this",
}


def operations(page):
    paths = ok(page.get("/api/openapi.json"))["paths"]
    return {(path, method): told for path, methods in paths.items() for method, told in methods.items()}


def with_token(site, page, scopes):
    secret = ok(page.post("/api/account/tokens", json={"name": "x", "scopes": scopes}), 201)["token"]
    program = site.page()
    program.headers["Authorization"] = f"Bearer {secret}"
    return program


def refused(program, path, method):
    """Which scope a program is told to lack; None: none."""
    answer = asked(program, path, method)
    if answer.status_code not in (401, 403):
        return None
    told = answer.json()["detail"]
    return next((scope for scope, words in REFUSALS.items() if words in told), None)


@pytest.mark.slow
def test_scopes_are_those_that_the_server_asks_for(site, ada):
    fill(site)
    every = {key: told["x-scope"] for key, told in operations(ada).items() if "events" not in key[0]}
    assert set(every.values()) == {"nobody", "link", "browser", "read", "submit", "admin"}
    reads = with_token(site, ada, ["read"])
    submits = with_token(site, ada, ["read", "submit"])
    manages = with_token(site, ada, ["read", "submit", "admin"])
    nobody = site.page()
    for (path, method), scope in every.items():
        told = f"{method} {path}: {scope}"
        if scope in ("read", "submit", "admin", "browser"):
            assert asked(nobody, path, method).status_code == 401, told
            expected = {"admin": ("admin", "submit"), "submit": ("submit",), "browser": ("browser",)}
            assert refused(reads, path, method) in expected.get(scope, (None,)), told
            assert refused(submits, path, method) == (scope if scope in ("admin", "browser") else None), told
            assert refused(manages, path, method) == (scope if scope == "browser" else None), told


def test_the_client_asks_what_is_said(ada, monkeypatch, tmp_path):
    known = operations(ada)
    requests = []

    def send(client, method, path, body=None, query=None):
        requests.append((method, path))
        one = {"state": "DONE", "id": 1, "received": 0, "items": [], "link": "x", "path": "relaxed.extxyz"}
        many = path in ("/jobs/12/files", "/jobs/export", "/shares", "/storage") and method == "GET"
        return json.dumps([one] if many else one).encode()

    monkeypatch.setattr(rutile.Client, "_send", send)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crystals.extxyz").write_text("")
    client = rutile.Client("http://nowhere", "rtl_x")
    used = set()
    for operation, call in CALLS.items():
        method, path = operation.split()
        assert known[(path, method.lower())]["x-client"] == call
        requests.clear()
        eval(call, {"client": client, "Path": Path})
        pattern = re.sub(r"\{\w+\}", "[^/]+", path.removeprefix("/api"))
        assert any(m == method and re.fullmatch(pattern, p) for m, p in requests), (operation, requests)
        used.add(re.match(r"client\.(\w+)", call)[1])
    methods = {name for name, _ in inspect.getmembers(rutile.Client, inspect.isfunction) if not name.startswith("_")}
    assert methods - used == {"request", "job"}  # for anything else, and what `wait` asks again and again


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    process, address, link = served(folder / "home", folder / "log", "memory=16")
    yield {"RUTILE_ADDRESS": address, "RUTILE_TOKEN": token_of(address, link)}
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


SAYS = {"relax": "DONE", "train": "train_energy_rmse", "scan": "0.03 DONE", "failed": "holds Si"}
"""What each recipe prints."""


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: one.name)
def test_recipes_work_as_they_stand(server, recipe, tmp_path):
    (tmp_path / "crystals.extxyz").write_text(
        '2\nLattice="3.6 0 0 0 3.6 0 0 0 3.6" Properties=species:S:1:pos:R:3\nCu 0 0 0\nCu 1.8 1.8 0.1\n'
    )
    run = {"cwd": tmp_path, "check": False, "capture_output": True, "text": True, "timeout": 240}
    if recipe.name == "train":
        subprocess.run([sys.executable, "-m", "rutile", "starter", "names=[silicon]"], **run)
        next(tmp_path.rglob("silicon.extxyz")).rename(tmp_path / "labelled.extxyz")
    if recipe.name == "failed":
        client = rutile.Client(server["RUTILE_ADDRESS"], server["RUTILE_TOKEN"])
        (tmp_path / "si.extxyz").write_text("1\n\nSi 0 0 0\n")
        settings = {"structures": [client.upload(tmp_path / "si.extxyz")], "model": "emt"}
        assert client.wait(client.submit("relax", settings), 120)["state"] == "FAIL"
    (tmp_path / "recipe.py").write_text(recipe.code)
    environment = {**os.environ, **server, "PYTHONPATH": SOURCE}
    done = subprocess.run([sys.executable, "recipe.py"], env=environment, **run)
    assert done.returncode == 0, done.stderr
    assert SAYS[recipe.name] in done.stdout
