"""Forms: what a job was asked as a form to be read, and defaults that follow from what is chosen."""

import json
import re
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web
COPPER = '4\nLattice="3.6 0 0 0 3.6 0 0 0 3.6" Properties=species:S:1:pos:R:3 pbc="T T T"\nCu 0 0 0\nCu 0 1.8 1.8\n'
COPPER += "Cu 1.8 0 1.8\nCu 1.8 1.8 0\n"


KEYS = ("cell", "fmax", "structures", "optimizer", "max_steps")


def form(site, task, **settings):
    """A form that is filled in."""
    site.open(f"/new/{task}?settings={quote(json.dumps(settings))}")
    site.tab.get_by_role("button", name="Submit").wait_for()


def copper(site):
    """The reference of a stored structure."""
    number = site.post("structures", {"name": "copper of forms", "text": COPPER, "format": "extxyz"})["id"]
    return f"structure:{number}"


def test_what_a_job_was_asked_is_a_form_to_be_read(site):
    structure, tab = copper(site), site.tab
    number = site.done("relax", structures=[structure], model="emt", cell="full", optimizer="fire", max_steps=50)
    site.open(f"/jobs/{number}?tab=inputs")
    panel = tab.get_by_role("tabpanel")
    marked = panel.locator("[data-key].set")
    expect(marked).to_have_count(5)
    row = {
        key: panel.locator(f'[data-key="{key}"]') for key in ("cell", "fmax", "structures", "optimizer", "max_steps")
    }
    expect(row["cell"]).to_have_text(re.compile(r"^Cell\s*full\s*$"))
    expect(row["fmax"]).to_have_text(re.compile(r"^Fmax\s*0.01 eV/Å\s*default\s*$"))
    expect(row["max_steps"]).to_have_text(re.compile(r"^Max steps\s*50\s*$"))
    expect(row["optimizer"]).to_contain_text("fire")
    expect(row["structures"].get_by_role("link")).to_have_text(structure)
    assert panel.locator("input, select, textarea").count() == 0
    panel.get_by_text("as JSON").click()
    expect(panel.locator("pre").filter(has_text='"max_steps": 50')).to_be_visible()
    assert site.barriers() == []


def test_defaults_follow_the_chosen_potential_and_what_was_set_stays(site):
    tab = site.tab
    form(site, "train", data=["upload:none"])
    tab.get_by_text("Advanced", exact=True).click()
    epochs, clip = tab.locator('[data-key="epochs"]'), tab.locator('[data-key="clip_norm"]')
    expect(epochs.get_by_role("textbox")).to_have_value("250")
    clip.get_by_role("textbox").fill("3")
    tab.get_by_label("Potential: kind").select_option("painn")
    expect(epochs.get_by_role("textbox")).to_have_value("200")
    expect(epochs).to_contain_text("A default that suits the chosen potential.")
    expect(clip.get_by_role("textbox")).to_have_value("3")
    tab.get_by_label("Optimizer: kind").wait_for()
    tab.get_by_label("Potential: kind").select_option("anatase")
    expect(tab.get_by_label("Optimizer: kind")).to_have_value("muon")
    expect(clip.get_by_role("textbox")).to_have_value("3")
    clip.get_by_role("button", name="Clip norm: Back to the default").click()
    expect(clip.get_by_role("textbox")).to_have_value("10")
    command = tab.get_by_role("region", name="Command line")
    expect(command).to_contain_text("potential.name=anatase")
    expect(command).not_to_contain_text("clip_norm")


def test_before_submit_a_summary_says_what_is_set_where_it_runs_and_what_it_takes(site):
    structure, tab = copper(site), site.tab
    form(site, "md", structures=[structure], model="emt", time=0.2, ensemble={"name": "nve"})
    summary = tab.get_by_role("region", name="Summary")
    expect(summary).to_contain_text("Ready to submit.")
    said = [one.strip() for one in summary.locator("dt, dd").all_inner_texts()]
    assert said == ["Structures", structure, "Model", "emt", "Time", "0.2 ps", "Ensemble", "nve"]
    expect(summary).to_contain_text("local: 1 core, 2 GB")
    expect(summary).to_contain_text("Expected wait: ")
    expect(summary).to_contain_text("All other settings are at their defaults.")
    tab.get_by_label("Cores", exact=True).fill("2")
    tab.get_by_label("Memory (GB)").fill("3")
    tab.get_by_role("button", name="More …").click()
    tab.get_by_label("Longest time (h)").fill("2")
    expect(summary).to_contain_text("local: 2 cores, 3 GB, at most 2 h 0 min")
    assert site.barriers() == []
    tab.get_by_label("Time", exact=True).fill("-1")
    expect(summary).to_contain_text("To be changed first")
    expect(summary.locator("dt")).to_have_count(0)
    tab.get_by_label("Time", exact=True).fill("0.2")
    summary.get_by_role("button", name="Submit").click()
    site.job()


def test_a_file_just_sent_is_drawn_beside_the_form(site, tmp_path):
    tab, path = site.tab, tmp_path / "sent.extxyz"
    path.write_text(COPPER)
    (tmp_path / "notes.txt").write_text("nothing to be drawn")
    form(site, "relax", model="emt")
    preview = tab.get_by_role("region", name="What it is about")
    expect(preview).to_have_count(0)
    for sent in (tmp_path / "notes.txt", path):
        tab.get_by_role("button", name="Choose Structures").click()
        tab.get_by_role("tab", name="Upload").click()
        tab.get_by_label("A file from your computer").set_input_files(sent)
        tab.get_by_role("dialog").wait_for(state="detached")
    preview.locator("[data-formula=Cu4]").wait_for()
    expect(preview.get_by_role("combobox")).to_have_count(0)


def test_of_several_structures_of_a_form_one_is_chosen_to_be_drawn(site):
    tab, start = site.tab, copper(site)
    end = site.post("structures", {"name": "one atom", "text": "1\npbc=F\nCu 0 0 0\n", "format": "extxyz"})["id"]
    form(site, "barrier", start=start, end=f"structure:{end}", model="emt")
    preview = tab.get_by_role("region", name="What it is about")
    preview.locator("[data-formula=Cu4]").wait_for()
    preview.get_by_role("combobox").select_option(f"structure:{end}")
    preview.locator("[data-formula=Cu]").wait_for()
    assert site.barriers() == []


def test_who_asks_the_same_again_is_led_to_the_job_that_answered(site):
    structure = copper(site)
    number = site.done("relax", structures=[structure], model="emt", fmax=0.02)
    form(site, "relax", structures=[structure], model="emt", fmax=0.02)
    site.tab.get_by_role("link", name=f"Job {number} answered exactly this question: open it.").click()
    assert site.job() == number
    form(site, "relax", structures=[structure], model="emt", fmax=0.03)
    site.tab.get_by_text("Ready to submit.").wait_for()
    expect(site.tab.get_by_text("answered exactly this question")).to_have_count(0)
