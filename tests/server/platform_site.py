"""A platform in a folder, with an administrator (ada), two users (ben, eve) and a viewer (vic)."""

import time
from dataclasses import dataclass

from fastapi.testclient import TestClient
from pwdlib.hashers.argon2 import Argon2Hasher

from rutile.jobs.tables import ADMIN, USER, VIEWER, User
from rutile.server.app import create_app
from rutile.server.people import CSRF
from rutile.server.platform import Platform
from rutile.server.settings import ServeSettings

PASSWORD = "correct horse battery"
HASH = Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
"""A weak one: signing in takes a tenth of the time."""


class Page(TestClient):
    """A browser: keeps its cookie, and shows the word of the page with every change."""

    def sign_in(self, name):
        answer = self.post("/api/session", json={"name": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        self.headers[CSRF] = answer.json()["csrf"]
        return self


@dataclass
class Site:
    platform: Platform
    app: object

    def page(self, name=None):
        page = Page(self.app, base_url="http://127.0.0.1:8765", raise_server_exceptions=True)
        return page.sign_in(name) if name else page

    def wait(self, page, number, state=("DONE", "FAIL", "CANCEL"), seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job = page.get(f"/api/jobs/{number}").json()
            if job["state"] in state:
                return job
            self.platform.reconciler.round()
            time.sleep(0.05)
        raise AssertionError(f"job {number} is {job['state']}: {job['reason']}")


def opened(folder, **settings):
    """The platform of a folder, as another server opens it."""
    platform = Platform.open(ServeSettings(home=folder, **{"cores": 2, "memory": 16.0} | settings))
    platform.address = "http://127.0.0.1:8765"
    platform.patience.tries = 1000
    return Site(platform, create_app(platform))


def make_site(folder, **settings):
    site = opened(folder, **settings)
    platform = site.platform
    with platform.database.writing() as session:
        for name, role in (("ada", ADMIN), ("ben", USER), ("eve", USER), ("vic", VIEWER)):
            session.add(User(name=name, role=role, created=time.time(), password=HASH))
    return site


def ok(answer, code=200):
    assert answer.status_code == code, answer.text
    return answer.json() if answer.content else None
