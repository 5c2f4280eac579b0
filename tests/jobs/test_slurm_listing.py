"""What a platform reads from Slurm's list, with a `squeue` that is written down: which of the jobs there is which."""

import pytest

from rutile.jobs.home import Home
from rutile.jobs.places import Slurm, There
from rutile.jobs.settings import SlurmPlace
from rutile.jobs.tables import Job

LISTED = """\
17|RUNNING|None|1:00:00|job-3
18|PENDING|Resources|INVALID|job-4
19|COMPLETING|None|0:10|job-5
20|PENDING|Priority|INVALID|of a site | with signs
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, does in (("squeue", f"cat <<'END'\n{LISTED}END"), ("sbatch", "exit 1"), ("scancel", "exit 1")):
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return Slurm(Home(tmp_path / "home"), SlurmPlace(name="slurm"))


def test_a_job_whose_number_was_not_written_down_is_known_by_its_comment(cluster):
    jobs = [Job(id=3, native_id=""), Job(id=4, native_id="18"), Job(id=5, native_id="19"), Job(id=6, native_id="")]
    found = cluster.look(jobs)
    assert found[3] == There(True, "", "17")
    assert found[4] == There(True, "waits in Slurm: Resources", "18")
    assert found[5] == There(False, "", "19")
    assert found[6] == There(False)


def test_a_comment_of_a_site_may_hold_any_sign(cluster):
    assert cluster.queue.listing()["20"].comment == "of a site | with signs"
