"""Every page that there is: read by everybody in light and dark, no wider than a telephone, nothing unsaid in it."""

import re
import time
from pathlib import Path

import psutil
import pytest
from words_of_pages import UNSAID

from rutile.testing.adaptive_plan import QUICK

pytestmark = [pytest.mark.web, pytest.mark.slow]
ROUTES = Path(__file__).parents[2] / "web" / "src" / "pages" / "index.ts"
TABS = ["log", "files", "performance", "inputs", "provenance"]
WAYS = {
    "": ["/"],
    "new": ["/new"],
    "new/one": ["/new/search", "/new/relax?clone={DONE}"],
    "jobs": ["/jobs", "/jobs?state=FAIL&search=nothing", "/jobs?size=10&sort=name"],
    "jobs/one": [*(f"/jobs/{{{job}}}" for job in ("RUNNING", "FAIL", "CANCEL", "DONE", "trained"))]
    + [f"/jobs/{{DONE}}?tab={tab}" for tab in TABS]
    + ["/jobs/{RUNNING}?tab=log", "/jobs/{RUNNING}?tab=performance", "/jobs/{FAIL}?tab=log"],
    "structures": ["/structures"],
    "structures/one": ["/structures/{structure}"],
    "datasets": ["/datasets"],
    "datasets/one": ["/datasets/{dataset}"],
    "models": ["/models", "/models?search=nothing"],
    "models/one": ["/models/{model}"],
    "searches": ["/searches"],
    "searches/one": ["/searches/{RUNNING}", "/searches/{adaptive}"],
    "compare": ["/compare?ids={DONE}&ids={FAIL}", "/compare?of=models&ids={model}&ids={taught}"],
    "compute": ["/compute"],
    "api": ["/api", "/api?find=log", "/api?find=nothing of this kind"],
    "admin": [
        f"/admin?tab={tab}"
        for tab in ("users", "groups", "courses", "use", "announcements", "audit", "storage", "backup", "health")
    ],
    "account": ["/account"],
    "shared": ["/shared"],
    "shared/one": [f"/shared/{{link_to_{kind}}}" for kind in ("job", "search", "dataset", "model", "structure")],
}
"""Every page of the table of routes, in the states that it can be in."""
NOT_THERE = [
    "/nowhere",
    "/jobs/1/2",
    "/jobs/9999",
    "/structures/9999",
    "/datasets/9999",
    "/models/9999",
    "/new/nothing",
]
NOT_THERE += ["/searches/9999", "/jobs/x", "/new/search?settings={", "/compare?ids=9999"]


def test_every_route_of_the_page_is_looked_at():
    table = re.search(r"const PAGES.*?^\}", ROUTES.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[0]
    routes = set()
    for entry in re.split(r"^  (?=[\w']+: \{)", table, flags=re.MULTILINE)[1:]:
        name = entry.split(":")[0].strip("'")
        routes |= {name, f"{name}/one"} if "loadOne" in entry else {name}
    assert len(routes) > 15
    assert routes == set(WAYS)


class Things(dict):
    """Numbers of jobs in every state, and of one thing of every kind."""

    def __init__(self, site, home):
        self.site, self.home = site, home
        super().__init__()

    def __missing__(self, name):
        kind = name.removeprefix("link_to_")
        self[name] = self.link(kind) if kind != name else getattr(self, f"make_{name}")()
        return self[name]

    def link(self, kind):
        """The secret of a link that shows one thing to everybody."""
        number = self[{"job": "DONE", "search": "adaptive"}.get(kind, kind)]
        return self.site.post("shares", {"kind": kind, "number": number})["link"].rsplit("/", 1)[-1]

    def begun(self, task, **settings):
        """A job that is at work."""
        number = self.site.post("jobs", {"task": task, "name": task, "settings": settings})["id"]
        self.site.state(number, "RUNNING")
        return number

    def make_RUNNING(self):
        number = self.begun("search", formula="Cu-Au", model="emt", relaxations=100_000, first=6)
        while len(self.site.get(f"searches/{number}")["found"]) < 20:
            time.sleep(0.2)
        for process in self.processes(number):
            process.suspend()  # pages are looked at for minutes: it is at work as long, and takes no core
        return number

    def processes(self, number):
        """The program of a job that is at work, and all that it started."""
        cwd = re.compile(rf"{re.escape(str(self.home))}/.*/jobs/{number}/files")
        programs = [p for p in psutil.process_iter(["cwd"]) if cwd.match(p.info["cwd"] or "")]
        assert programs
        return programs

    def make_CANCEL(self):
        number = self.begun("search", formula="Cu", model="emt", relaxations=100_000)
        self.site.post(f"jobs/{number}/cancel", {})
        self.site.state(number, "CANCEL")
        return number

    def make_FAIL(self):
        settings = {"model": "emt", "structures": [f"structure:{self['structure']}"]}
        number = self.site.post("jobs", {"task": "elastic", "name": "of silicon", "settings": settings})["id"]
        self.site.state(number, "FAIL")
        return number

    def make_DONE(self):
        copper = self.site.post("structures", {"name": "copper", "text": "1\npbc=F\nCu 0 0 0\n"})["id"]
        return self.site.done("relax", model="emt", structures=[f"structure:{copper}"])

    def make_starter(self):
        return self.site.kept("starter", names=["silicon"])

    def make_trained(self):
        return self.site.done("train", data=[f"job:{self['starter']}/silicon.extxyz"], epochs=2, write_report=False)

    def make_structure(self):
        return self.site.post("structures", {"name": "dimer", "text": "2\n\nSi 0 0 0\nSi 0 0 2.3\n"})["id"]

    def make_dataset(self):
        return self.site.post("datasets", {"name": "all", "file": f"job:{self['starter']}/silicon.extxyz"})["id"]

    def make_model(self):
        return self._model(self["trained"])

    def make_adaptive(self):
        return self.site.kept("adapt", **QUICK)

    def make_taught(self):
        return self._model(self["adaptive"])

    def _model(self, job):
        return next(m["id"] for m in self.site.get("models")["items"] if m["job_id"] == job)


@pytest.fixture(scope="module")
def things(site, tmp_path_factory):
    things = Things(site, tmp_path_factory.getbasetemp())
    yield things
    if "RUNNING" in things:
        site.post(f"jobs/{things['RUNNING']}/cancel", {})
        for process in things.processes(things["RUNNING"]):
            process.resume()


def look_at(site, path):
    """What anybody may find wrong with the page that is shown."""
    tab = site.tab
    wrong = [f"{path}: {words!r} is written" for words in UNSAID.findall(tab.locator("main").inner_text())]
    wrong += [f"{path}: {one}" for one in site.barriers()]
    tab.emulate_media(color_scheme="dark")
    wrong += [f"{path} in dark: {one}" for one in site.barriers(["color-contrast"])]
    tab.emulate_media(color_scheme="light")
    tab.set_viewport_size({"width": 400, "height": 900})
    wide = tab.evaluate("document.documentElement.scrollWidth")
    wrong += [f"{path} is {wide} px wide on a telephone"] if wide > 400 else []
    tab.set_viewport_size({"width": 1400, "height": 900})
    return wrong


@pytest.mark.timeout(300)
@pytest.mark.parametrize("route", WAYS)
def test_everybody_can_read(site, things, route):
    wrong = []
    for way in WAYS[route]:
        path = way.format_map(things)
        if route == "shared/one":
            site.tab.goto("about:blank")  # one comes by a link from elsewhere
        site.open(path)
        site.settled()
        wrong += look_at(site, path)
    site.open("/")
    site.tab.get_by_role("heading", name="What would you like to do?").wait_for()
    assert wrong == []


@pytest.mark.parametrize("path", NOT_THERE)
def test_what_is_not_there_is_said(site, path):
    site.open(path)
    said = site.tab.locator("main").get_by_text(re.compile("no |not ", re.IGNORECASE)).first
    said.wait_for()
    assert site.barriers() == []
    site.complaints[:] = [c for c in site.complaints if "Failed to load resource" not in c]  # the browser's own words


def test_somebody_new_sees_pages_without_things(site, browser):
    with site.somebody_else(browser, "newcomer") as page:
        wrong = []
        for path in (
            "/",
            "/jobs",
            "/structures",
            "/datasets",
            "/models",
            "/searches",
            "/compute",
            "/admin",
            "/account",
        ):
            page.open(path)
            page.settled()
            wrong += look_at(page, path)
        page.tab.get_by_role("button", name="Sign out", exact=True).click()
        page.tab.get_by_role("button", name="Sign in").wait_for()
        wrong += look_at(page, "signing in")
        assert wrong == []
        assert page.complaints == []
