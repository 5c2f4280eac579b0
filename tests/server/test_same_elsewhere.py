"""A form, the command line, a job file, Python and the client ask the same question and get the same answer."""

import json
import os
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from ase.build import bulk
from test_client import client as client

from rutile.cli.main import read_settings
from rutile.core.config import build
from rutile.jobs import check
from rutile.tasks.catalogue import all_tasks, joined, load_task

ROOT = Path(__file__).parents[2]
FILES = (".yaml", ".yml")


def examples():
    """The command lines in the help of all tasks, but those that name a job file that the project has not."""
    plans = [f"rutile generate {path}" for path in sorted((ROOT / "src/rutile/starter/plans").glob("*.yaml"))]
    for line in [*(line for task in all_tasks() for line in task.examples), *plans]:
        named = [word for word in shlex.split(line) if word.endswith(FILES)]
        if all((ROOT / word).is_file() for word in named):
            yield line


def task_and_words(line):
    """The task of a command line, and what stands behind its name."""
    program, *words = shlex.split(line)
    assert program == "rutile"
    name, *rest = joined(words)
    return load_task(name), [word for word in rest if word != "--json"]


@pytest.mark.parametrize("line", examples())
def test_the_command_line_the_job_file_and_python_mean_what_the_form_means(tmp_path, monkeypatch, line):
    monkeypatch.chdir(ROOT)
    task, words = task_and_words(line)
    meant = read_settings(task, words)
    form = meant.model_dump(mode="json", exclude_unset=True)
    assert build(task.settings, form) == meant
    assert read_settings(task, task_and_words(check.as_command(task, form))[1]) == meant
    (tmp_path / "job.yaml").write_text(check.as_yaml(form))
    assert read_settings(task, [str(tmp_path / "job.yaml")]) == meant
    made = {}
    exec(check.as_python(task, form).rsplit("\n", 1)[0], made)  # all but the line that runs it
    assert made["settings"] == meant


@pytest.mark.slow
def test_all_five_give_the_same_answer(client, tmp_path, monkeypatch):
    for k, scale in enumerate((1.0, 1.01)):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        atoms.write(tmp_path / f"cu{k}.extxyz")
    uploads = [client.upload(tmp_path / f"cu{k}.extxyz") for k in range(2)]
    form = {"structures": uploads, "model": "emt", "points": 7, "span": 0.06}
    asked = urllib.request.Request(
        f"{client.address}/api/tasks/eos/check",
        json.dumps({"settings": form}).encode(),
        {"Authorization": f"Bearer {client.token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        equal = json.load(answer)
    assert equal["problems"] == []

    given = {}
    submitted = equal["client"].replace('"rtl_..."', repr(client.token)).replace("print(", "done = (")
    exec(submitted, given)
    assert given["done"]["state"] == "DONE"
    answers = [table(given["done"]["result"])]

    program = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    rutile = [sys.executable, "-m", "rutile"]
    for words in (shlex.split(equal["command"])[1:], ["eos", "job.yaml"]):
        here = tmp_path / words[-1].replace("=", "-")
        here.mkdir()
        for k in range(2):
            (here / f"cu{k}.extxyz").symlink_to(tmp_path / f"cu{k}.extxyz")
        (here / "job.yaml").write_text(equal["yaml"])
        done = subprocess.run(
            [*rutile, *words, "--json"], cwd=here, env=program, capture_output=True, text=True, check=True
        )
        answers.append(table(json.loads(done.stdout)))

    made = {}
    monkeypatch.chdir(here)
    exec(equal["python"], made)
    answers.append(table(made["result"].model_dump(mode="json")))
    assert len(answers[0]) == 2
    assert 100 < answers[0][0]["bulk_modulus"] < 200  # copper by effective medium theory: 134 GPa
    for other in answers[1:]:
        for first, second in zip(answers[0], other, strict=True):
            assert first.keys() == second.keys()
            numbers = {name: value for name, value in first.items() if isinstance(value, float)}
            assert {name: second[name] for name in numbers} == pytest.approx(numbers, rel=1e-9, abs=1e-12)


def table(result):
    """The rows of an answer."""
    return result["structures"]
