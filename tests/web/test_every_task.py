"""Every task of the catalogue in a browser: its form is filled with what it needs, submitted, and its job looked at."""

import re

import pytest
from forms_by_hand import Hand, Shelf
from playwright.sync_api import expect
from words_of_pages import UNSAID

from rutile.tasks.catalogue import TASKS

pytestmark = [pytest.mark.web, pytest.mark.slow]
EMT, COPPER = ("pick", "model", "ready", "emt"), ("pick", "structures", "structures", "copper")
COMMITTEE, DATA = ("pick", "model", "models", "committee"), ("pick", "data", "datasets", "labels")
LABELLED = ("job", "labelled", "silicon.extxyz")
OF_COPPER = ["relax", "saddles", "md", "eos", "elastic", "phonons", "conductivity", "expansion", "surfaces", "defects"]
OF_COPPER += ["faults", "boundaries", "hull", "predict"]
GIVEN = {
    "learn": [
        ("pick", "initial.structures", "job", "clusters", "built.extxyz"), ("press", "systems", "Add one"),
        ("write", "systems.0.label", "copper"), ("pick", "systems.0.files", "structures", "copper"),
        ("press", "systems.0.explorers", "Add one"), ("choose", "systems.0.explorers", "relax"),
        ("choose", "engine", "emt"),
    ],
    "train": [DATA],
    "compare": [("pick", "runs", "job", "single", "run"), ("pick", "runs", "job", "committee", "run")],
    "compare-optimizers": [DATA],
    "tune": [DATA],
    "retrain": [
        ("pick", "model", "models", "single"), ("pick", "new", *LABELLED), ("pick", "old", "datasets", "labels"),
    ],
    "evaluate": [COMMITTEE, DATA],
    "calibrate": [COMMITTEE, DATA],
    "choose": [COMMITTEE, ("pick", "structures", *LABELLED)],
    "compress": [("pick", "model", "models", "embedded")],
    "search": [EMT, ("write", "formula", "Cu3Au")],
    "search resume": [("pick", "folder", "job", "gold", "search")],
    "search export": [("pick", "folder", "job", "gold", "search")],
    "adapt": [("write", "formula", "TiO2"), ("choose", "engine", "rigid_ion")],
    "barrier": [EMT, ("pick", "structures", "structures", "before"), ("pick", "structures", "structures", "after")],
    "hop": [EMT, COPPER, ("write", "species", "Cu")],
    "screen": [
        EMT, COPPER, ("press", "chain", "Add one"), ("entry", "chain", "task", '"relax"'),
    ],
    "analyse": [("pick", "trajectories", "job", "run", "md")],
    "infrared": [("pick", "trajectories", "job", "run", "md"), ("entry", "charges", "Cu", "1")],
    "adsorb": [EMT, ("pick", "structures", "structures", "slab"), ("write", "adsorbates", "O")],
    "binding": [EMT, ("pick", "structures", "structures", "slab"), ("write", "guests", "CO")],
    "swap": [EMT, ("pick", "structures", "structures", "alloy")],
    "melt": [EMT, COPPER, ("write", "lowest", "800"), ("write", "highest", "1800")],
    "vibrations": [EMT, ("pick", "structures", "structures", "dimer")],
    "smoothness": [EMT],
    "label": [COPPER, ("choose", "engine", "emt")],
    "inspect": [("pick", "files", "datasets", "labels")],
    "build": [("choose", "builder", "cluster"), ("write", "builder.elements", "Cu")],
    "generate": [("press", "steps", "Add one"), ("choose", "steps", "cluster"), ("write", "steps.0.elements", "Cu")],
    "convert": [("pick", "files", "datasets", "labels"), ("write", "out", "copy.extxyz")],
    "starter": [],
    "demo": [],
    "doctor": [],
} | {task: [EMT, COPPER] for task in OF_COPPER}  # fmt: skip
"""What the forms do not know by themselves: (what the hand does, setting, ...). All else stays at its default."""
UNFINISHED = {
    "infrared": [("pick", "trajectories", "job", "run", "md")],
    "swap": [EMT],
    "screen": [EMT, COPPER, ("press", "chain", "Add one")],
}
LONG = {
    "compare-optimizers",
    "tune",
    "search",
    "adapt",
    "md",
    "conductivity",
    "expansion",
    "melt",
    "demo",
    "learn",
    "hop",
}
"""Tasks that take minutes by default: seen at work, then cancelled."""
QUICK = {"relax", "starter", "doctor", "search"}
"""Tasks whose forms are tried by every run of the tests."""


@pytest.fixture(scope="module")
def shelf(site):
    return Shelf(site)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [pytest.param(t, marks=() if t in QUICK else pytest.mark.long) for t in GIVEN])
def test_the_form_of_a_task_with_its_defaults(site, shelf, name, record_property):
    tab = site.tab
    hand = Hand(tab, shelf)
    site.open(f"/new/{name.replace(' ', '%20')}")
    tab.get_by_role("button", name="Submit").wait_for()
    for how, *what in GIVEN[name]:
        getattr(hand, how)(*what)
    tab.get_by_text("Ready to submit.").wait_for()
    assert not tab.get_by_text("Worth a look").is_visible()
    tab.get_by_role("button", name="Submit").click()
    state = tab.locator("h1 span", has_text=re.compile("^[A-Z]+$"))
    if name in LONG:
        expect(state).to_have_text("RUNNING", timeout=60_000)
        facts = tab.locator("main p.facts")
        expect(facts).to_contain_text(re.compile(r"\d+ of \d+"), timeout=240_000)
        tab.get_by_role("button", name="Cancel").click()
        expect(state).to_have_text("CANCEL", timeout=60_000)
    else:
        expect(state).to_have_text(re.compile("DONE|FAIL|CANCEL"), timeout=400_000)
        assert state.inner_text() == "DONE", tab.locator("main").inner_text()
        tab.get_by_role("heading", name="Result").wait_for()
    job = site.get(f"jobs/{tab.locator('h1').inner_text().split()[0]}")
    record_property("ended", f"{job['state']} after {job['ran']:.0f} s")
    assert UNSAID.findall(tab.locator("main").inner_text()) == []
    for report in tab.get_by_role("link", name=re.compile("^Report")).all():
        report.click()
        expect(tab.frame_locator("iframe").locator("body")).not_to_be_empty()
        tab.go_back()


def test_what_every_form_must_be_given_is_known():
    assert set(TASKS) == set(GIVEN) | {"notebook"}, "a line of GIVEN for each task"  # see test_notebook_page.py
    assert set(TASKS) >= LONG | QUICK


def test_what_cannot_end_well_is_said_before_it_is_submitted(site, shelf):
    for name, says in (
        ("infrared", "neither model nor charges"),
        ("swap", "no particles"),
        ("screen", "task: missing"),
    ):
        site.open(f"/new/{name}")
        hand = Hand(site.tab, shelf)
        for how, *what in UNFINISHED[name]:
            getattr(hand, how)(*what)
        expect(site.tab.locator("aside").get_by_text(says)).to_be_visible(timeout=30_000)
