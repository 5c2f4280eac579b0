"""The README's commands run as they stand there, in a folder that looks like a clone, on a small data set."""

import os
import re
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.spacegroup import crystal

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
STARTER = "src/rutile/starter/tio2.extxyz"


def write_data(path: Path) -> None:
    """Some thirty frames of the starter set; rattled rutile with invented labels where that is not there."""
    path.parent.mkdir(parents=True)
    if (ROOT / STARTER).exists():
        every = ase.io.read(ROOT / STARTER, ":")
        ase.io.write(path, every[:: max(1, len(every) // 30)])
        return
    frames = []
    cell = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.59, 4.59, 2.96, 90, 90, 90])
    for seed in range(30):
        atoms = cell.copy()
        atoms.rattle(0.05, seed=seed)
        atoms.calc = LennardJones(sigma=1.8, epsilon=0.5, rc=5.0)
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.info["REF_stress"] = atoms.get_stress(voigt=False)
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        frames.append(atoms)
    ase.io.write(path, frames)


def shell(blocks: list[tuple[str, str]]) -> str:
    """The blocks as one script, Python blocks by the same interpreter."""
    lines = ["set -euo pipefail"]
    for language, text in blocks:
        lines.append(f"echo '### {text.splitlines()[0]}'")
        lines.append(text if language == "sh" else f"python - <<'END_OF_PYTHON'\n{text}END_OF_PYTHON")
    return "\n".join(lines)


@pytest.mark.slow
def test_every_block_runs(tmp_path):
    assert len(BLOCKS) >= 6
    write_data(tmp_path / STARTER)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, words in (("rutile", "-m rutile "), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words}"$@"\n')
        (programs / name).chmod(0o755)
    source = str(ROOT / "src")
    done = subprocess.run(
        ["bash", "-c", shell(BLOCKS)], cwd=tmp_path, capture_output=True, text=True, timeout=850, check=False,
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    for name in ("first/model.rutile", "first/report.html", "errors/report.html", "relaxed.extxyz", "census.json"):
        assert (tmp_path / "runs" / name).stat().st_size > 100, name
    relaxed = ase.io.read(tmp_path / "runs" / "relaxed.extxyz", ":")
    assert all(np.isfinite(a.get_potential_energy()) for a in relaxed)


def test_every_make_target_and_file_it_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        text = path.read_text(encoding="utf-8")
        named = {a or b for a, b in re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+)", text, re.MULTILINE)}
        assert named
        assert named <= targets
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (ROOT / link).exists(), link


def test_changelog_begins_with_this_version():
    from rutile import __version__

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", text, re.MULTILINE)[1] == __version__
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
