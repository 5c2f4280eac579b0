"""Servers and pages of the browser's tests."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.resources import files

NOTICE = "THREE.Clock: This module has been deprecated"
"""Of a library to its own users: nothing of this page."""
CHROMIUM = {
    "executable_path": "/usr/bin/chromium",
    "args": [
        "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
        "--disable-gpu-rasterization",  # software that plays a GPU draws pages slower than none
    ],
}  # fmt: skip
"""How the browser of Debian is started."""
AXE = files("axe_playwright_python") / "axe.min.js"


@contextmanager
def serving(home, *more):
    """A server of its own in a folder, with more settings: its address and its login link."""
    command = [sys.executable, "-u", "-m", "rutile", "serve", f"home={home / 'home'}", "port=0", "cores=2", "memory=16"]
    command += more
    said = home / "said"
    with said.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        yield link_of(said, server)
    finally:
        server.terminate()
        server.wait(20)


def link_of(said, server):
    """The login link, once the server has printed it."""
    for _ in range(600):
        if match := re.search(r"(http://\S+)/login/\S+", said.read_text()):
            return match[1], match[0]
        assert server.poll() is None, said.read_text()
        time.sleep(0.1)
    raise AssertionError(said.read_text())


@contextmanager
def signed_in(told, browser):
    """A page of a server in a browser of its own that has signed in by a link."""
    address, link = told
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = Site(context.new_page(), address)
    page.tab.goto(link)
    page.tab.get_by_role("heading", name="What would you like to do?").wait_for()
    yield page
    context.close()


class Site:
    """A tab of the browser, with what it complained about."""

    def __init__(self, tab, address):
        self.tab, self.address = tab, address
        self.complaints, self._kept = [], {}
        tab.on("console", self._heard)
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.set_default_timeout(60_000)

    def _heard(self, message):
        if message.type in ("error", "warning") and not message.text.startswith(NOTICE):
            self.complaints.append(f"{message.text} {message.location.get('url', '')}".strip())

    def somebody_else(self, browser, name, role="user"):
        """A page of the same server for a new account (a context)."""
        number = self.post("admin/users", {"name": name, "role": role})["id"]
        return signed_in((self.address, self.post(f"admin/users/{number}/link", {})["link"]), browser)

    def open(self, path):
        """Go to a page by its address."""
        self.tab.goto(f"{self.address}/#{path}")

    def get(self, path):
        """What the API answers."""
        answer = self.tab.request.get(f"{self.address}/api/{path}")
        assert answer.ok, answer.text()
        return answer.json()

    def post(self, path, body):
        """Ask for a change through the API."""
        word = {"X-CSRF-Token": self.get("session")["csrf"]}
        answer = self.tab.request.post(f"{self.address}/api/{path}", data=body, headers=word)
        assert answer.ok, answer.text()
        return answer.json()

    def done(self, task, seconds=90, name="made before", **settings):
        """Do a task through the API, and wait until it is done; its name is that of no other story's jobs."""
        number = self.post("jobs", {"task": task, "name": name, "settings": settings})["id"]
        self.state(number, "DONE", seconds)
        return number

    def kept(self, task, **settings):
        """A job that many stories read and none changes: the one that did the same before, or a new one."""
        what = json.dumps([task, settings], sort_keys=True)
        if what not in self._kept:
            self._kept[what] = self.done(task, name="kept", **settings)
        return self._kept[what]

    def state(self, number, state, seconds=90):
        """Wait until a job is in a state."""
        for _ in range(5 * seconds):
            job = self.get(f"jobs/{number}")
            if job["state"] == state:
                return
            assert job["state"] not in ("DONE", "FAIL", "CANCEL"), f"{job['state']}: {job['reason']}"
            time.sleep(0.2)
        raise AssertionError(f"job {number} is {job['state']} after {seconds} s")

    def settled(self):
        """Wait until the page has what it asked for."""
        self.tab.locator("main h1").first.wait_for()
        self.tab.get_by_text("One moment").first.wait_for(state="detached")
        self.tab.get_by_text("is being loaded").first.wait_for(state="detached")

    def barriers(self, rules=()):
        """What keeps people out who cannot see or use a mouse: serious findings of axe, of all its rules or of some."""
        self.tab.evaluate(AXE.read_text(encoding="utf-8"))
        asked = {"runOnly": list(rules)} if rules else {}
        found = self.tab.evaluate("async (asked) => (await axe.run(document, asked)).violations", asked)
        serious = [f for f in found if f["impact"] in ("serious", "critical")]
        return [f"{f['id']}: {[n['html'][:120] for n in f['nodes'][:3]]}" for f in serious]

    def job(self, state="DONE", seconds=90):
        """Wait until the job on the page has ended, and see how."""
        self.tab.locator("h1 span", has_text=re.compile("^(DONE|FAIL|CANCEL)$")).wait_for(timeout=1000 * seconds)
        shown = self.tab.locator("h1").inner_text()
        assert state in shown, self.tab.locator("main").inner_text()
        return int(shown.split()[0])
