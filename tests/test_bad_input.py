"""Bad files, settings, disks: one clear line, exit code 2 (130 after Ctrl-C), no traceback, nothing half-written."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from rutile.cli.main import main
from rutile.core.describe import every_entry
from rutile.tasks.catalogue import TASKS, load_task

QUICK = ["epochs=1", "potential.hidden=[3]", "potential.auto.cutoff=4", "tensorboard=false"]
"""Makes a training short."""


def frames(count: int = 12) -> list[ase.Atoms]:
    """Rattled copper with energies and forces of effective medium theory."""
    out = []
    for seed in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        out.append(atoms)
    return out


@pytest.fixture(scope="module")
def stock(tmp_path_factory) -> Path:
    """A folder with a good data file and a good model."""
    folder = tmp_path_factory.mktemp("stock")
    ase.io.write(folder / "good.extxyz", frames())
    assert main(["train", str(folder / "good.extxyz"), f"out={folder / 'run'}", *QUICK]) == 0
    return folder


@dataclass
class Place:
    """Where a case may put its files."""

    here: Path
    stock: Path

    def file(self, name: str, content: str | bytes) -> str:
        """Write a file."""
        path = self.here / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    @property
    def good(self) -> str:
        """Data without fault."""
        return str(self.stock / "good.extxyz")

    @property
    def text(self) -> str:
        """Its text."""
        return Path(self.good).read_text()

    @property
    def model(self) -> Path:
        """A model without fault."""
        return self.stock / "run" / "model.rutile"

    def data(self, name: str, change: Callable[[list[str]], None]) -> str:
        """The good data with changed lines."""
        lines = self.text.splitlines()
        change(lines)
        return self.file(name, "\n".join(lines) + "\n")


@pytest.fixture
def place(tmp_path, stock, monkeypatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path, stock)


def set_line(number: int, text: str) -> Callable[[list[str]], None]:
    def change(lines: list[str]) -> None:
        lines[number] = text

    return change


def swap(number: int, old: str, new: str) -> Callable[[list[str]], None]:
    def change(lines: list[str]) -> None:
        assert old in lines[number]
        lines[number] = lines[number].replace(old, new)

    return change


def train(place: Place, *words: str) -> list[str]:
    return ["train", *QUICK, *words]


def header_of_model(place: Place, change: Callable[[dict], None]) -> bytes:
    """The good model with a changed description."""
    raw = place.model.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    description = json.loads(header["__metadata__"]["rutile"])
    change(description)
    header["__metadata__"]["rutile"] = json.dumps(description)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + raw[8 + size :]


HEAD = 'Properties=species:S:1:pos:R:3 pbc="T T T"'
CUBE = f'Lattice="3 0 0 0 3 0 0 0 3" {HEAD}'
ATOM = "Cu 0.0 0.0 0.0 0.0 0.0 0.0"

DATA_CASES: dict[str, tuple[Callable[[Place], str], tuple[str, ...]]] = {
    "missing file": (lambda p: str(p.here / "none.extxyz"), ("none.extxyz",)),
    "a folder without data": (lambda p: str(p.here), ()),
    "empty file": (lambda p: p.file("empty.extxyz", ""), ("empty.extxyz",)),
    "binary garbage": (lambda p: p.file("x.extxyz", np.random.default_rng(0).bytes(4000)), ("x.extxyz",)),
    "text garbage": (lambda p: p.file("x.extxyz", "once upon a time\nthere was\n"), ("x.extxyz",)),
    "unknown ending": (lambda p: p.file("x.qqq", "once upon a time\n"), ("x.qqq",)),
    "truncated in a frame": (lambda p: p.file("x.extxyz", p.text[: len(p.text) // 2 - 40]), ("x.extxyz",)),
    "huge atom count": (lambda p: p.data("x.extxyz", set_line(6, "99999999999")), ("x.extxyz",)),
    "negative atom count": (lambda p: p.data("x.extxyz", set_line(6, "-4")), ("x.extxyz",)),
    "zero atoms": (lambda p: p.file("x.extxyz", '0\nenergy=1.0 pbc="F F F"\n'), ("x.extxyz",)),
    "too few columns": (lambda p: p.data("x.extxyz", set_line(3, "Cu 0.0 0.1")), ("x.extxyz",)),
    "text where a number belongs": (
        lambda p: p.data("x.extxyz", set_line(3, ATOM.replace("0.0", "abc", 1))),
        ("x.extxyz",),
    ),
    "NaN position": (lambda p: p.data("x.extxyz", set_line(8, ATOM.replace("0.0", "nan", 1))), ("x.extxyz", "1")),
    "NaN force": (lambda p: p.data("x.extxyz", set_line(8, "Cu 0.0 0.0 0.0 0.0 0.0 nan")), ("x.extxyz", "1")),
    "NaN energy": (
        lambda p: p.file("x.extxyz", p.text.replace("energy=", "energy=nan old=", 1)),
        ("x.extxyz", "energy"),
    ),
    "NaN cell": (lambda p: p.data("x.extxyz", swap(1, 'Lattice="', 'Lattice="nan ')), ("x.extxyz",)),
    "unknown element": (lambda p: p.data("x.extxyz", set_line(8, ATOM.replace("Cu", "Qq"))), ("x.extxyz", "Qq")),
    "two atoms at one place": (lambda p: p.data("x.extxyz", lambda ls: ls.__setitem__(9, ls[8])), ("x.extxyz", "0.3")),
    "no cell under pbc": (lambda p: p.file("x.extxyz", f"1\n{HEAD} energy=1.0\nCu 0 0 0\n"), ("x.extxyz",)),
    "flat cell": (
        lambda p: p.file(
            "x.extxyz",
            f'1\nLattice="3 0 0 0 3 0 0 0 0" {HEAD} energy=1.0\nCu 0 0 0\n',
        ),
        ("x.extxyz",),
    ),
    "no labels": (
        lambda p: p.file("x.extxyz", f"1\n{CUBE}\nCu 0 0 0\n"),
        ("energ",),
    ),
    "energies without forces": (
        lambda p: p.file("x.extxyz", f"1\n{CUBE} energy=1\nCu 0 0 0\n" * 9),
        ("force",),
    ),
    "broken XSF": (lambda p: p.file("x.xsf", "CRYSTAL\nPRIMVEC\n1 2\n"), ("x.xsf",)),
    "broken CIF": (lambda p: p.file("x.cif", "data_x\n_cell_length_a abc\n"), ("x.cif",)),
    "broken POSCAR": (lambda p: p.file("POSCAR", "x\n1.0\n1 0 0\n"), ("POSCAR",)),
    "broken n2p2": (lambda p: p.file("input.data", "begin\natom 1 2\nend\n"), ("input.data",)),
    "broken traj": (lambda p: p.file("x.traj", b"- of Ulm" + bytes(100)), ("x.traj",)),
    "broken db": (lambda p: p.file("x.db", b"SQLite format 3\0" + bytes(200)), ("x.db",)),
}

WORD_CASES: dict[str, tuple[Callable[[Place], list[str]], str]] = {
    "unknown task": (lambda p: ["trian"], "did you mean train"),
    "unknown setting": (lambda p: train(p, p.good, "epoch=3"), "did you mean epochs"),
    "unknown nested setting": (lambda p: train(p, p.good, "potential.hiden=3"), "did you mean potential.hidden"),
    "wrong type": (lambda p: train(p, p.good, "epochs=many"), "epochs = 'many'"),
    "negative cutoff": (lambda p: train(p, p.good, "potential.auto.cutoff=-4"), "potential.auto.cutoff = -4"),
    "infinite number": (lambda p: train(p, p.good, "clip_norm=.inf"), "clip_norm"),
    "unknown potential": (lambda p: train(p, p.good, "potential=bheler"), "behler"),
    "unknown optimizer": (lambda p: train(p, p.good, "optimizer=adan"), "did you mean adam"),
    "unknown unit": (lambda p: train(p, p.good, "read.energy_unit=ev"), "read.energy_unit = 'ev'"),
    "unknown label key": (lambda p: train(p, p.good, "read.energy_key=E_dft"), "E_dft"),
    "no data": (lambda p: ["train"], "data: missing"),
    "option with dashes": (lambda p: ["train", p.good, "--epochs=3"], "epochs=value"),
    "value that is no YAML": (lambda p: train(p, p.good, "seed=[1"), "not a YAML value"),
    "job file missing": (lambda p: ["train", "none.yaml"], "none.yaml: no such file"),
    "job file is no YAML": (lambda p: ["train", p.file("j.yaml", "a: [1\n")], "j.yaml line"),
    "job file is a list": (lambda p: ["train", p.file("j.yaml", "- 1\n")], "j.yaml"),
    "job file is binary": (lambda p: ["train", p.file("j.yaml", b"\x80\xff\x00")], "j.yaml"),
    "unknown key in a job file": (
        lambda p: ["train", p.file("j.yaml", f"data: {p.good}\nepoch: 3\n")],
        "j.yaml line 2",
    ),
    "nothing to validate on": (lambda p: train(p, p.good, "split.valid=0.99"), ""),
    "no training frames": (lambda p: train(p, p.good, "split.valid=0.6", "split.test=0.6"), "leaves nothing"),
    "table that does not exist": (lambda p: train(p, p.good, "potential.table=nosuch"), "nosuch"),
    "table of other elements": (lambda p: train(p, p.good, "potential.table=tio2_artrith_urban_2016"), "Cu"),
    "start_from that does not exist": (lambda p: train(p, p.good, "start_from=nosuch"), "nosuch"),
    "output is a file": (lambda p: train(p, p.good, f"out={p.file('taken', 'x')}"), "taken"),
    "output below a file": (lambda p: train(p, p.good, f"out={p.file('taken', 'x')}/run"), "taken"),
    "convert to an unknown format": (lambda p: ["convert", p.good, "out=x.qqq"], "x.qqq"),
    "convert onto itself": (lambda p: ["convert", p.good, f"out={p.good}"], "good.extxyz"),
    "convert onto a file that exists": (
        lambda p: ["convert", p.good, f"out={p.file('there.extxyz', 'x')}"],
        "there.extxyz exists",
    ),
    "convert into a folder that cannot be made": (
        lambda p: ["convert", p.good, f"out={p.file('taken', 'x')}/x.extxyz"],
        "taken",
    ),
    "model file missing": (lambda p: ["evaluate", "model=none.rutile", f"data={p.good}"], "none.rutile"),
    "model misspelt": (lambda p: ["eos", p.good, "model=emtt"], "did you mean emt?"),
    "run misspelt": (lambda p: ["eos", p.good, f"model={p.stock / 'rum'}"], "run?"),
    "trajectory misspelt": (lambda p: ["analyse", f"{p.stock / 'god.extxyz'}"], "good.extxyz?"),
    "model file empty": (lambda p: ["evaluate", f"model={p.file('m.rutile', '')}", f"data={p.good}"], "m.rutile"),
    "model file garbage": (
        lambda p: ["evaluate", f"model={p.file('m.rutile', os.urandom(500))}", f"data={p.good}"],
        "m.rutile",
    ),
    "model file truncated": (
        lambda p: ["evaluate", f"model={p.file('m.rutile', p.model.read_bytes()[:-50])}", f"data={p.good}"],
        "m.rutile",
    ),
    "model header of another kind": (
        lambda p: ["evaluate", f"model={p.file('m.rutile', '{}')}", f"data={p.good}"],
        "m.rutile",
    ),
    "model of a newer rutile": (
        lambda p: [
            "evaluate",
            f"model={p.file('m.rutile', header_of_model(p, lambda d: d.update(format=999)))}",
            f"data={p.good}",
        ],
        "999",
    ),
    "model with a wrong setting": (
        lambda p: [
            "evaluate",
            p.good,
            "model="
            + p.file("m.rutile", header_of_model(p, lambda d: d["members"][0]["settings"].update(hidden=[-3]))),
        ],
        "m.rutile",
    ),
    "model with a flipped byte": (
        lambda p: [
            "evaluate",
            f"model={p.file('m.rutile', (lambda b: b[:-9] + bytes([b[-9] ^ 255]) + b[-8:])(p.model.read_bytes()))}",
            f"data={p.good}",
        ],
        "m.rutile",
    ),
    "predict a NaN": (
        lambda p: ["predict", p.data("x.extxyz", set_line(8, ATOM.replace("0.0", "nan", 1))), f"model={p.model}"],
        "frame 1: atom 0",
    ),
    "predict an element that the model does not know": (
        lambda p: ["predict", p.file("x.extxyz", p.text.replace("Cu ", "Ag ")), f"model={p.model}"],
        "Ag",
    ),
    "predict without a model": (lambda p: ["predict", p.good], "model: missing"),
    "predict into a folder that cannot be made": (
        lambda p: ["predict", p.good, f"model={p.model}", f"out={p.file('taken', 'x')}/x.extxyz"],
        "taken",
    ),
    "compare a folder that is no run": (lambda p: ["compare", str(p.here)], "no folder of a training run"),
    "compare a run that does not exist": (
        lambda p: ["compare", str(p.stock / "run"), "nosuch"],
        "nosuch: no such folder",
    ),
    "compare a run with itself": (lambda p: ["compare", str(p.model.parent), str(p.model.parent)], "given twice"),
    "relax two atoms at one place": (
        lambda p: ["relax", p.data("x.extxyz", lambda ls: ls.__setitem__(9, ls[8])), f"model={p.model}"],
        "frame 1: atoms 0 and 1",
    ),
    "relax an unknown kind of cell": (lambda p: ["relax", p.good, f"model={p.model}", "cell=all"], "cell = 'all'"),
    "relax on a device that is not there": (
        lambda p: ["relax", p.good, f"model={p.model}", "device=cuda:99"],
        "cuda:99",
    ),
    "label without an engine": (lambda p: ["label", p.good], "engine: missing"),
    "a setting of another executor": (
        lambda p: ["label", p.good, "engine=emt", "executor.partition=x"],
        "it belongs to executor=slurm",
    ),
    "no workers": (lambda p: ["label", p.good, "engine=emt", "workers=0"], ">= 1"),
    "label with an unknown engine": (lambda p: ["label", p.good, "engine=gpwa"], "did you mean gpaw"),
    "label with an engine that is not there": (
        lambda p: ["label", p.good, "engine=espresso", "engine.command=no_such_program"],
        "no program 'no_such_program'; install Quantum ESPRESSO",
    ),
    "label with a Python that is not there": (
        lambda p: ["label", p.good, "engine=emt", "engine.python=/no/python"],
        "/no/python: No such file",
    ),
    "label elements that the engine does not know": (
        lambda p: ["label", p.file("x.extxyz", f"1\n{CUBE}\nSi 0 0 0\n"), "engine=emt", "isolated_atoms=false"],
        "emt does not know Si",
    ),
    "label two atoms at one place": (
        lambda p: ["label", p.data("x.extxyz", lambda ls: ls.__setitem__(9, ls[8])), "engine=emt"],
        "frame 1: atoms 0 and 1",
    ),
    "evaluate without labels": (
        lambda p: ["evaluate", p.file("x.extxyz", f"1\n{CUBE}\nCu 0 0 0\n"), f"model={p.model}"],
        "x.extxyz",
    ),
    "element that the model does not know": (
        lambda p: [
            "evaluate",
            f"model={p.model}",
            f"data={p.file('x.extxyz', p.text.replace('Cu ', 'Ag '))}",
        ],
        "Ag",
    ),
}


def one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail; its one line."""
    capsys.readouterr()
    code = main(argv)
    err = capsys.readouterr().err
    assert "Traceback" not in err, err
    errors = [line for line in err.splitlines() if "error:" in line]
    assert len(errors) == 1, err
    assert err.splitlines()[-1] == errors[0]
    assert errors[0].startswith(f"rutile {argv[0]}: error: ")
    assert code == 2
    assert len(errors[0]) < 600
    return errors[0]


def left_behind(folder: Path) -> list[str]:
    """Files of a run or half-written files."""
    return [str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix in {".rutile", ".unfinished", ".html"}]


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA_CASES)
def test_bad_data_files(name, place, capsys):
    make, words = DATA_CASES[name]
    line = one_line(["train", make(place), "out=run", *QUICK], capsys)
    for word in words:
        assert word in line
    assert left_behind(place.here) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", WORD_CASES)
def test_bad_words_settings_and_models(name, place, capsys):
    make, word = WORD_CASES[name]
    argv = make(place)
    before = {p for p in place.here.rglob("*") if p.suffix == ".rutile"}
    assert word in one_line(argv, capsys)
    assert {p for p in place.here.rglob("*") if p.suffix == ".rutile"} == before
    assert not [p for p in left_behind(place.here) if not p.endswith(".rutile")]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A folder on a disk of its own with 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"mounting a small tmpfs is not permitted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> None:
    """Write until the disk is full, then give some of it back."""
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    os.truncate(folder / "ballast", (folder / "ballast").stat().st_size - leave)


@pytest.mark.slow
def test_full_disk_while_training(place, small_disk, capsys):
    fill(small_disk, 4096)
    line = one_line(["train", place.good, f"out={small_disk / 'run'}", *QUICK], capsys)
    assert "No space left on device" in line
    assert str(small_disk) in line
    assert left_behind(small_disk) == []


@pytest.mark.slow
def test_full_disk_while_saving_the_checkpoint_or_model(place, small_disk, capsys):
    """Data fits, the rest does not: nothing that looks like a model is left."""
    words = [*QUICK, "potential.hidden=[100,100]", "checkpoint_seconds=0"]
    line = one_line(["train", place.good, f"out={small_disk / 'run'}", *words], capsys)
    assert "No space left on device" in line
    assert [n for n in left_behind(small_disk) if n.endswith(".unfinished")] == []
    for name in left_behind(small_disk):
        assert main(["inspect", str(small_disk / name)]) == 0, name


@pytest.mark.slow
def test_full_disk_while_evaluating(place, small_disk, capsys):
    fill(small_disk, 4096)
    argv = ["evaluate", f"model={place.model}", f"data={place.good}", f"out={small_disk / 'out'}"]
    assert "No space left on device" in one_line(argv, capsys)
    assert left_behind(small_disk) == []


def test_full_disk_while_converting(place, small_disk, capsys):
    old = "kept"
    (small_disk / "out.extxyz").write_text(old)
    fill(small_disk, 4096)
    argv = ["convert", place.good, f"out={small_disk / 'out.extxyz'}", "overwrite=true"]
    assert "No space left on device" in one_line(argv, capsys)
    assert (small_disk / "out.extxyz").read_text() == old
    assert sorted(p.name for p in small_disk.iterdir()) == ["ballast", "out.extxyz"]


@pytest.fixture
def read_only_disk(small_disk) -> Path:
    """The same, read-only (the user root may write where permissions forbid it)."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    return small_disk


def test_output_that_cannot_be_written(place, read_only_disk, capsys):
    for argv in (
        ["train", place.good, f"out={read_only_disk / 'run'}", *QUICK],
        ["train", place.good, f"out={read_only_disk}", *QUICK],
        ["convert", place.good, f"out={read_only_disk / 'x.extxyz'}"],
        ["evaluate", f"model={place.model}", f"data={place.good}", f"out={read_only_disk / 'out'}"],
    ):
        assert str(read_only_disk) in one_line(argv, capsys)


def command(*argv: str) -> list[str]:
    return [sys.executable, "-m", "rutile", *argv]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["reading", "training"])
def test_ctrl_c_ends_with_one_line_and_what_is_saved_can_be_used(when, place):
    """SIGINT to a training that runs."""
    words = ["epochs=1000000", *QUICK[1:], "checkpoint_seconds=0"]
    process = subprocess.Popen(
        command("train", place.good, "out=run", *words), cwd=place.here, stderr=subprocess.PIPE, text=True
    )
    wanted = place.here / "run" / ("store" if when == "reading" else "checkpoint.safetensors")
    for _ in range(15_000):
        if wanted.exists() or process.poll() is not None:
            break
        time.sleep(0.02)
    assert wanted.exists()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "rutile train: interrupted"
    for path in place.here.rglob("*.rutile"):
        assert main(["inspect", str(path)]) == 0


@pytest.mark.slow
def test_ctrl_c_has_its_exit_code_wherever_it_comes(tmp_path):
    """Also while a text is executed: the interpreter would then end by SIGINT, caught or not."""
    (tmp_path / "interrupted.py").write_text(
        "import rutile.cli.main as cli\ncli._dispatch = lambda argv: exec('raise KeyboardInterrupt')\ncli.entry()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (130, "rutile: interrupted\n")


@pytest.mark.slow
def test_errors_of_a_real_process(place):
    """Exit code and streams as a shell sees them."""
    done = subprocess.run(
        command("inspect", "none.extxyz"), capture_output=True, text=True, check=False, cwd=place.here
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "rutile inspect: error: none.extxyz: no such file\n"


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(place):
    """`rutile train --help | head -1`."""
    line = f"{sys.executable} -m rutile train --help | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, cwd=place.here)
    assert done.stderr == ""
    assert done.returncode in (0, 141)


def test_result_on_a_full_disk():
    """The result itself cannot be written."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command("--version"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "rutile: error: No space left on device\n"


@pytest.mark.parametrize("name", TASKS)
def test_no_task_takes_a_temperature_of_a_million_kelvin(name):
    settings = load_task(name).settings
    for entry in every_entry(settings):
        if entry.unit == "K" and entry.key.split(".")[-1] not in ("hottest", "within", "temperature_step"):
            assert "<= 100000.0" in entry.kind, f"{name} {entry.key}: {entry.kind}"
