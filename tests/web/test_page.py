"""The page in a browser: signing in, every page, every form, and the story from data to relaxed crystals by mouse."""

import re
from importlib.resources import files

import pytest
from forms_by_hand import Hand, Shelf
from playwright.sync_api import expect

pytestmark = pytest.mark.web
PAGES = ["/", "/new", "/new/search", "/jobs", "/structures", "/datasets", "/models", "/searches", "/compute"]
PAGES += ["/admin", "/account"]
TABS = ["overview", "log", "files", "performance", "inputs", "provenance"]


def test_home_offers_three_starts(site):
    site.open("/")
    for start in ("First steps", "Forms", "Programs"):
        expect(site.tab.get_by_role("heading", name=start)).to_be_visible()
    expect(site.tab.get_by_role("link", name="Start: Take labelled silicon")).to_be_visible()
    expect(site.tab.get_by_text("Do step 1 first").first).to_be_visible()
    summaries = {task["name"]: task["summary"] for task in site.get("tasks")}
    starts = {"Reaction path (NEB)": "barrier", "Search crystals": "search", "Train a potential": "train"}
    for title, task in starts.items():
        card = site.tab.get_by_role("link", name=f"{title} {summaries[task]}", exact=True)
        assert card.get_attribute("href").endswith(f"/new/{task}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read_by_everybody(site, scheme):
    site.tab.emulate_media(color_scheme=scheme)
    for path in PAGES:
        site.open(path)
        site.tab.locator("main h1").wait_for()
        site.tab.get_by_text("One moment").first.wait_for(state="detached")
        assert site.barriers() == [], path
    site.tab.emulate_media(color_scheme="light")


def test_the_keyboard_reaches_the_content_and_walks_through_tabs(site):
    site.open("/new/relax")
    site.tab.get_by_role("tab", name="Command line").focus()
    site.tab.keyboard.press("ArrowRight")
    assert site.tab.get_by_role("tab", name="Job file").get_attribute("aria-selected") == "true"
    site.open("/jobs")
    site.tab.reload()
    site.tab.locator("main h1").wait_for()
    site.tab.keyboard.press("Tab")
    assert site.tab.locator(":focus").inner_text().strip() == "To the content"


def shown_defaults(site, schema, suited):
    """(key, what the form shows, default, one that suits the task first) of settings that one input holds."""
    fields = site.tab.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('[id^="f-"]')]
            .filter((e) => !e.id.slice(2).includes('.') && ['INPUT', 'SELECT'].includes(e.tagName))
            .map((e) => [e.id.slice(2), e.type === 'checkbox' ? e.checked
                : e.tagName === 'SELECT' ? e.selectedOptions[0].textContent : e.value]))"""
    )
    for key, node in schema["properties"].items():
        default = suited.get(key, node.get("default"))
        if key in fields and isinstance(default, bool | int | float | str):
            yield key, fields[key], default


def test_every_task_has_a_form_that_shows_its_defaults(site):
    compared = 0
    for task in site.get("tasks"):
        name = task["name"].replace(" ", "%20")
        site.open(f"/new/{name}")
        site.tab.get_by_role("heading", name=task["name"], exact=True, level=1).wait_for()
        site.tab.get_by_role("button", name="Submit").wait_for()
        schema = site.get(f"tasks/{name}/schema")
        fields = site.tab.locator("[data-key]").evaluate_all("all => all.map((e) => e.dataset.key)")
        assert {k for k, node in schema["properties"].items() if "const" not in node} <= set(fields), task["name"]
        site.tab.get_by_role("region", name="Command line").wait_for()  # comes with what suits
        suited = site.post(f"tasks/{name}/check", {"settings": {}})["suited"]
        for key, shown, default in shown_defaults(site, schema, suited):
            same = shown == default if isinstance(default, bool | str) else float(shown) == default
            assert same, f"{task['name']}: {key} shows {shown!r}, its default is {default!r}"
            compared += 1
    assert compared > 300


def test_kinds_of_settings_are_entered_and_become_a_command(site):
    site.open("/new/search")
    tab = site.tab
    tab.get_by_label("Formula").fill("Cu13")
    tab.get_by_role("button", name="Choose Model").click()
    tab.get_by_role("tab", name="Potentials that need no file").click()
    tab.get_by_role("button", name="emt").click()
    tab.get_by_label("Structure: kind").select_option("cluster")
    tab.get_by_text("Advanced", exact=True).click()
    tab.get_by_label("Operators: Name").fill("rattle")
    tab.get_by_role("button", name="Add: Operators").click()
    tab.get_by_label("Operators rattle", exact=True).fill("2.5")
    command = tab.get_by_role("region", name="Command line")
    command.get_by_text("operators.rattle=2.5").wait_for()
    for word in ("formula=Cu13", "model=emt", "structure.name=cluster"):
        assert word in command.inner_text()
    tab.get_by_text("Ready to submit.").wait_for()
    tab.get_by_label("First", exact=True).fill("many")
    problem = tab.locator("[data-key=first] .bad")
    problem.wait_for()
    assert "many" in problem.inner_text()
    tab.get_by_role("button", name="First: Back to the default").click()
    tab.get_by_text("Ready to submit.").wait_for()


def step(site, title):
    """Do a guided example of the home page, and go on when its job is done."""
    site.open("/")
    site.tab.get_by_role("link", name=f"Start: {title}").click()
    site.tab.get_by_text("Ready to submit.").wait_for()
    site.tab.get_by_role("button", name="Submit").click()
    return site.job()


@pytest.mark.timeout(600)
def test_the_story_from_data_to_a_search_by_mouse(site):
    tab = site.tab
    step(site, "Take labelled silicon")
    step(site, "Train a potential")
    tab.get_by_role("img", name=re.compile(r"^Energy RMSE \(eV.atom\): train, valid")).first.wait_for()
    step(site, "See how good it is")
    tab.get_by_role("link", name=re.compile("^Report")).first.click()
    assert tab.frame_locator("iframe").locator("body").inner_text()
    step(site, "Build crystals")
    number = step(site, "Relax them")
    assert site.get(f"jobs/{number}")["result"]["converged"] >= 1
    for name in TABS:
        site.open(f"/jobs/{number}?tab={name}")
        tab.get_by_role("tabpanel", name=re.compile(name, re.IGNORECASE)).wait_for()
        tab.get_by_text("One moment").first.wait_for(state="detached")
        assert site.barriers() == [], name
    lists_are_filtered_by_what_the_address_says(site)
    the_new_potential_finds_crystals(site)


def lists_are_filtered_by_what_the_address_says(site):
    """After the story, whose training is in the list."""
    site.open("/jobs")
    tab = site.tab
    tab.get_by_role("button", name=re.compile("^DONE")).click()
    tab.get_by_label("mine", exact=True).check()
    tab.get_by_label("Find", exact=True).fill("max_seconds")
    tab.wait_for_url(re.compile("state=DONE.*owner=me.*search=max_seconds"))
    tab.get_by_role("link", name="train", exact=True).wait_for()
    expect(tab.locator("tbody tr")).to_have_count(1)
    tab.reload()
    tab.get_by_role("link", name="train", exact=True).wait_for()
    tab.get_by_role("link", name=re.compile("^Clone and edit")).click()
    tab.wait_for_url(re.compile(r"/new/train\?clone="))
    tab.get_by_text(re.compile("answered exactly this question")).wait_for()
    assert tab.get_by_label("Epochs", exact=True).input_value() == "30"


def the_new_potential_finds_crystals(site):
    """After the story: its potential is found in the registry, searches, and what it found is looked at."""
    tab = site.tab
    tab.get_by_role("link", name="Models", exact=True).click()
    model = tab.get_by_role("main").get_by_role("link", name=re.compile("train", re.IGNORECASE)).first
    name = model.inner_text()
    model.click()
    tab.get_by_role("heading", name=name).first.wait_for()
    tab.get_by_role("link", name="New job", exact=True).click()
    tab.get_by_role("link", name=re.compile("^search (?!resume|export)")).click()
    hand = Hand(tab, Shelf(site, {name: 0}))
    hand.write("formula", "Si")
    hand.pick("model", "models", name)
    hand.write("relaxations", "24")
    tab.get_by_text("Ready to submit.").wait_for()
    tab.get_by_role("button", name="Submit").click()
    number = site.job(seconds=150)
    tab.get_by_role("link", name="Searches", exact=True).click()
    tab.locator(f'a[href$="/searches/{number}"]').first.click()
    tab.get_by_role("heading", name="Lowest structures").wait_for()
    tab.get_by_role("img", name=re.compile("^Energies of what was found")).first.wait_for()
    assert site.get(f"searches/{number}")["done"] >= 20
    assert site.barriers() == []


def test_a_pasted_structure_is_drawn(site):
    site.open("/structures")
    tab = site.tab
    tab.get_by_text("Add a structure").click()
    tab.get_by_role("button", name="An example: copper").click()
    tab.get_by_role("button", name="Keep it").click()
    tab.get_by_role("heading", name="copper").wait_for()
    tab.locator(".scene[data-formula=Cu] canvas").wait_for(timeout=60_000)
    tab.get_by_text("1 atom", exact=True).wait_for()
    assert site.barriers() == []
    tab.get_by_role("link", name="Relax").click()
    tab.get_by_text(re.compile("^structure:")).wait_for()
    preview = tab.get_by_role("region", name="What it is about")
    preview.locator(".scene[data-formula=Cu] canvas").wait_for(timeout=60_000)
    tab.set_viewport_size({"width": 400, "height": 900})
    for path in PAGES:
        site.open(path)
        tab.locator("main h1").wait_for()
        assert tab.evaluate("document.documentElement.scrollWidth") <= 400, path
    tab.set_viewport_size({"width": 1400, "height": 900})


def test_a_data_set_is_sent_looked_at_and_cut(site):
    site.open("/datasets")
    tab = site.tab
    tab.get_by_text("Public data").click()
    tab.get_by_role("link", name="Copy it tio2", exact=True).wait_for()
    assert site.barriers() == []
    tab.get_by_text("Add a data set").click()
    tab.route("**/api/uploads/*?offset=0", lambda route: route.abort(), times=1)  # the way is cut once
    tab.get_by_label("File", exact=True).set_input_files(str(files("rutile") / "starter" / "silicon.extxyz"))
    expect(tab.get_by_label("or what a job wrote")).to_have_value(re.compile("^upload:"))
    tab.get_by_role("button", name="Add", exact=True).click()
    tab.get_by_text("69 of 69 structures").wait_for(timeout=60_000)
    site.complaints.clear()
    table = tab.get_by_role("region", name="Periodic table")
    expect(table.get_by_role("button", name="O", exact=True)).to_be_disabled()
    table.get_by_role("button", name="Si", exact=True).click()
    figure = tab.get_by_role("img", name="Energy per atom against Volume per atom")
    x, y = re.match(r"M(\S+) (\S+)h0", figure.locator("path.dots").get_attribute("d")).groups()
    figure.click(position={"x": float(x), "y": float(y)})
    tab.get_by_text(re.compile("^Structure [1-9][0-9]* of 69")).wait_for()
    tab.get_by_label("to", exact=True).fill("-5")
    tab.get_by_label("to", exact=True).press("Enter")
    chosen = tab.get_by_role("heading", name=re.compile(r"^\d+ of 69 structures")).filter(has_not_text="69 of 69")
    chosen.wait_for()
    count = int(chosen.inner_text().split()[0])
    number = re.search(r"/datasets/(\d+)", tab.url)[1]
    energies = site.get(f"datasets/{number}/table?size=100")["columns"]["energy_per_atom"]
    assert count == sum(e <= -5 for e in energies)
    tab.get_by_role("region", name="Structures").get_by_role("button", name=re.compile(r"^\d+$")).first.click()
    tab.locator(".scene canvas").wait_for(timeout=60_000)
    assert site.barriers() == []
    tab.get_by_label("Name of the selection").fill("below")
    tab.get_by_role("button", name="Keep this selection").click()
    tab.get_by_role("heading", name="below").wait_for()
    tab.get_by_text(f"{count} of {count} structures").wait_for(timeout=60_000)
