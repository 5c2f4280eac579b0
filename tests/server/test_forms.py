"""Every task can be shown as a form."""

import json

import pytest
from platform_site import ok

from rutile.server import forms
from rutile.server.forms import GROUPS, essentials, form_schema, group_of
from rutile.tasks.catalogue import TASKS, load_task

KINDS = {"type", "$ref", "anyOf", "oneOf", "const", "enum", "allOf"}


def parts(schema):
    return [schema, *schema.get("$defs", {}).values()]


@pytest.mark.parametrize("name", TASKS)
def test_a_schema_holds_what_a_form_can_draw(name):
    """Scalars, enumerations, constants, lists, tuples, mappings, groups and tagged unions; nothing else."""
    schema = form_schema(name)
    json.dumps(schema)
    for part in parts(schema):
        for key, field in part.get("properties", {}).items():
            assert KINDS & set(field), f"{name}.{key}: {field}"
            assert field.get("description") or {"const", "$ref"} & set(field), f"{name}.{key} has no meaning"
            groups = [one for one in field.get("oneOf", []) if "$ref" in one]
            assert not groups or "discriminator" in field, f"{name}.{key}: a union without a tag"


@pytest.mark.parametrize("name", TASKS)
def test_what_must_be_given_is_essential(name):
    task, schema = load_task(name), form_schema(name)
    first = {key for key, field in schema["properties"].items() if field["x-essential"]}
    assert set(schema.get("required", [])) <= first == essentials(task)


def test_every_task_stands_in_one_group():
    every = [name for names in GROUPS.values() for name in names]
    assert len(every) == len(set(every))
    assert set(every) == set(TASKS)
    assert group_of("new-one") == forms.OTHER


def test_paths_say_what_they_stand_for():
    fields = form_schema("relax")["properties"]
    roles = {key: field.get("x-role") for key, field in fields.items() if "x-role" in field}
    assert roles == {"structures": "structures", "model": "model", "out": "output"}


def test_units_reach_the_form():
    field = form_schema("relax")["properties"]["fmax"]
    assert field["unit"] == "eV/Å"
    assert field["exclusiveMinimum"] == 0


def test_tasks_are_listed_and_checked(ben):
    names = [t["name"] for t in ok(ben.get("/api/tasks"))]
    assert names == list(TASKS)
    one = ok(ben.get("/api/tasks/search resume"))
    assert one["group"] == "Search"
    settings = {"structures": ["a b.cif"], "model": "emt", "fmax": 0.02, "optimizer": "fire"}
    seen = ok(ben.post("/api/tasks/relax/check", json={"settings": settings}))
    assert seen["ok"], seen["problems"]
    assert seen["settings"]["max_steps"] > 0
    assert seen["command"] == "rutile relax 'structures=[a b.cif]' model=emt fmax=0.02 optimizer=fire"
    assert "fmax: 0.02" in seen["yaml"]
    compile(seen["python"], "x", "exec")
    wrong = ok(ben.post("/api/tasks/relax/check", json={"settings": {"fmx": 1}}))
    assert not wrong["ok"]
    assert "fmx" in [p["key"] for p in wrong["problems"]]
    assert "did you mean fmax" in str(wrong["problems"])
    assert {p["key"]: p["missing"] for p in wrong["problems"]} == {"fmx": False, "structures": True, "model": True}
    refused = ben.post("/api/jobs", json={"task": "relax", "settings": {}}).json()
    assert [(p["key"], p["missing"]) for p in refused["problems"]] == [("model", True), ("structures", True)]
    assert ben.get("/api/tasks/nothing/schema").status_code == 404


def test_a_form_is_told_which_defaults_follow_from_what_is_given(ben):
    check = ok(ben.post("/api/tasks/train/check", json={"settings": {"potential": {"name": "painn"}, "epochs": 7}}))
    assert check["suited"]["epochs"] == 200
    assert check["suited"]["optimizer"] == {"name": "adam", "learning_rate": 0.003}
    assert ok(ben.post("/api/tasks/relax/check", json={"settings": {"fmax": 0.1}}))["suited"] == {}


def test_a_job_tells_what_a_form_needs_to_show_its_settings(ben):
    settings = {"builder": {"name": "bulk", "count": 1, "crystals": {"elements": ["Cu"], "prototypes": ["fcc"]}}}
    job = ok(ben.post("/api/jobs", json={"task": "build", "settings": settings}), 201)["id"]
    told = ok(ben.get(f"/api/jobs/{job}/form"))
    assert told == {"form": form_schema("build"), "suited": {}}
    ok(ben.get("/api/jobs/99999/form"), 404)
