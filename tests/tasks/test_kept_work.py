"""Properties go on where they were killed, to the same numbers."""

import errno
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from ase.build import add_adsorbate, bulk, fcc100, molecule
from ase.io import write

from rutile.cli.main import main
from rutile.core.reporting import SilentReporter
from rutile.tasks.kept_work import KEPT, KeptWork

KILL = """
import os, signal, sys
from rutile.cli.main import main
from rutile.tasks.kept_work import KeptWork
add, left = KeptWork.add, [{after}]
def once_more(self, key, values):
    if not left[0]:
        with self.path.open("a") as file:
            file.write('{{"key": "half')
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    add(self, key, values)
KeptWork.add = once_more
main(sys.argv[1:])
"""
NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
CASES = {
    "eos": ("metals", 5, ["points=5"]),
    "elastic": ("metals", 9, []),
    "phonons": ("metals", 2, ["supercell=2,2,2", "atoms_at_once=10"]),
    "expansion": ("metals", 6, ["supercell=2,2,2", "volumes=5", "atoms_at_once=20"]),
    "vibrations": ("molecules", 4, ["atoms_at_once=10"]),
    "surfaces": ("metals", 4, ["thickness=5"]),
    "defects": ("metals", 3, ["length=5"]),
    "boundaries": ("metals", 5, ["axes=[[1,0,0]]", "planes=[[0,-2,1]]", "thickness=4", "shifts=2,2", "merge=0.6"]),
    "hull": ("metals", 1, ["references={Cu: 0, Al: 0}"]),
    "conductivity": ("metals", 4, ["supercell=2,2,2", "mesh=3,3,3", "atoms_at_once=40"]),
    "barrier": ("ends", 1, ["fixed_below=6.1", "images=1", "max_steps=20"]),
    "hop": ("copper", 2, ["species=Cu", "supercell=2,2,2", "images=1", "max_steps=20"]),
    "saddles": ("adatom", 2, ["fixed_below=6.1", "centres=[12]", "directions=[[1,0,0]]", "fmax=0.01"]),
}
"""Task -> structures, pieces of work after which it is killed, settings."""


@pytest.fixture
def given(tmp_path):
    write(tmp_path / "metals.extxyz", [bulk("Cu", a=3.65), bulk("Al", a=4.1)])
    write(tmp_path / "molecules.extxyz", [molecule("H2O"), molecule("CO")])
    write(tmp_path / "copper.extxyz", bulk("Cu", a=3.65, cubic=True))
    slab = fcc100("Al", size=(2, 2, 3))
    add_adsorbate(slab, "Au", 1.7, "hollow")
    slab.info = {}
    slab.center(axis=2, vacuum=4.0)
    hopped = slab.copy()
    hopped.positions[-1, 0] += slab.cell[0, 0] / 2
    write(tmp_path / "adatom.extxyz", slab)
    write(tmp_path / "ends.extxyz", [slab, hopped])
    return tmp_path


def words(given, task, out):
    structures, _, more = CASES[task]
    return [task, str(given / f"{structures}.extxyz"), "model=emt", f"out={given / out}", *more]


def assert_same(one, other):
    """Both folders hold the same files with the same words, and numbers that differ by rounding at most."""
    for suffix in ("csv", "json", "extxyz"):
        files = [sorted(p.relative_to(f) for p in f.rglob(f"*.{suffix}")) for f in (one, other)]
        assert files[0] == files[1]
        for file in files[0]:
            texts = [(f / file).read_text().replace(str(f), "OUT") for f in (one, other)]
            words = [NUMBER.sub("#", text) for text in texts]
            assert words[0] == words[1], file
            numbers = [np.array(NUMBER.findall(text), dtype=float) for text in texts]
            np.testing.assert_allclose(*numbers, rtol=1e-6, atol=1e-8, err_msg=str(file))


@pytest.mark.slow
@pytest.mark.parametrize("task", CASES)
def test_killed_and_gone_on_equals_never_killed(given, task, capsys, monkeypatch):
    after = CASES[task][1]
    assert main(words(given, task, "whole")) == 0
    assert not (given / "whole" / KEPT).exists()
    code = KILL.format(after=after)
    ended = subprocess.run([sys.executable, "-c", code, *words(given, task, "out")], env=os.environ, check=False)
    assert ended.returncode == -signal.SIGKILL
    kept = (given / "out" / KEPT).read_text().splitlines()
    assert len(kept) == after + 1
    done = {json.loads(line)["key"] for line in kept[:-1]}
    capsys.readouterr()
    again, add = [], KeptWork.add
    monkeypatch.setattr(KeptWork, "add", lambda self, key, values: (again.append(key), add(self, key, values)))
    assert main(words(given, task, "out")) == 0
    assert f"going on: {after} pieces" in capsys.readouterr().err
    assert again  # there was work left
    assert not done & set(again)  # and none was done twice
    assert_same(given / "out", given / "whole")
    assert not (given / "out" / KEPT).exists()


@pytest.mark.slow
def test_other_settings_begin_anew_and_keep_what_is_the_same(given, capsys):
    work = KeptWork(given)
    work.add("other question", {})
    (given / "out").mkdir()
    (given / KEPT).rename(given / "out" / KEPT)
    assert main(words(given, "eos", "out")) == 0
    assert main(words(given, "eos", "whole")) == 0
    assert_same(given / "out", given / "whole")


@pytest.mark.parametrize("lost", [1, 5])
def test_a_line_without_its_end_is_cut_off_and_those_after_it_are_read(tmp_path, lost):
    work = KeptWork(tmp_path)
    for key in ("a", "b"):
        work.add(key, {"x": np.arange(3)})
    whole = work.path.read_bytes()
    work.path.write_bytes(whole[:-lost])  # killed while it wrote
    for more, expected in (("c", ["a"]), ("d", ["a", "c"])):
        again = KeptWork(tmp_path)
        with again.opened(SilentReporter()):
            assert list(again.done) == expected
            again.add(more, {"x": np.arange(3)})


@pytest.mark.slow
def test_a_full_disk_leaves_what_was_done(given, capsys, monkeypatch):
    opened, left = type(given).open, [3]

    def full(self, mode="r", **more):
        if self.name == KEPT and mode == "a":
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, mode, **more)

    monkeypatch.setattr(type(given), "open", full)
    assert main(words(given, "eos", "out")) == 2
    told = capsys.readouterr().err
    assert "No space left on device" in told
    assert "run it again to go on" in told
    left[0] = 1000
    assert main(words(given, "eos", "out")) == 0
    assert "going on: 3 pieces" in capsys.readouterr().err
