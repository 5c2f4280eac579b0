"""`rutile demo` from the starter set to the page, with a small made-up set and a tiny budget."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from ase.spacegroup import crystal

from rutile import starter
from rutile.core.reporting import SilentReporter
from rutile.potentials.evaluate import evaluate
from rutile.potentials.save import load_model
from rutile.structures.structures import Structures
from rutile.tasks import adapt, demo
from rutile.tasks.demo_adapt import adapt_section, adapt_settings, named
from rutile.testing.toys import make_toy

SECTIONS = (
    "Polymorphs", "Learning curves", "Schedule", "Parity", "Residuals", "Errors", "Worst frames", "Dimers", "Data",
    "Settings",
)  # fmt: skip


def parents() -> dict[str, Atoms]:
    rutile = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.96, 90, 90, 90])
    places, cell = [(0, 0, 0), (0, 0, 0.208)], [3.8, 3.8, 9.6, 90, 90, 90]
    anatase = crystal(["Ti", "O"], places, spacegroup=141, cellpar=cell, primitive_cell=True)
    return {"rutile": rutile, "anatase": anatase}


@pytest.fixture
def made_up(tmp_path) -> Path:
    """A starter set of the same form, labelled by a toy potential."""
    rng, toy, frames = np.random.default_rng(0), make_toy(), []
    for name, base in parents().items():
        for k in range(10):
            kind = "relax" if k < 3 else "rattled"
            atoms = Atoms(base.numbers, positions=base.positions, cell=base.cell, pbc=True)
            atoms.positions += rng.normal(0, 0.05 * (kind == "rattled"), atoms.positions.shape)
            p = evaluate(toy, Structures.from_ase(atoms))
            atoms.info = {"REF_energy": float(p.energy[0]), "REF_stress": p.stress[0].numpy(), "config_type": kind,
                          "parent": name, "calc_mode": "toy", "frame_id": f"{name}-{kind}-{k}"}  # fmt: skip
            atoms.arrays["REF_forces"] = p.forces.numpy()
            if k == 2:
                atoms.info["relaxed"] = True
            frames.append(atoms)
    folder = tmp_path / "starter"
    folder.mkdir()
    write(folder / "tio2.extxyz", frames, format="extxyz", write_results=False)
    about = dict.fromkeys(("calc_mode", "code", "paw_datasets", "settings", "units", "settings_hash"), "toy")
    (folder / "tio2.json").write_text(json.dumps(about))
    return folder


def test_parts_are_disjoint_complete_and_keep_trajectories_in_training(made_up, tmp_path):
    settings = demo.DemoSettings(out=tmp_path / "out", starter=made_up)
    settings.out.mkdir()
    files = demo.write_parts(settings)
    ids = {part: [a.info["frame_id"] for a in read(path, ":")] for part, path in files.items()}
    together = [name for names in ids.values() for name in names]
    assert sorted(together) == sorted({a.info["frame_id"] for a in starter.frames(folder=made_up)})
    assert len(together) == 20
    assert not [name for part in ("valid", "test") for name in ids[part] if "relax" in name]
    assert len(ids["valid"]) >= 1
    assert len(ids["test"]) >= 1
    again = {part: path.read_bytes() for part, path in demo.write_parts(settings).items()}
    assert again == {part: path.read_bytes() for part, path in files.items()}


@pytest.mark.slow
def test_demo_writes_a_page_with_the_numbers_of_the_run(made_up, tmp_path):
    settings = demo.DemoSettings(out=tmp_path / "out", starter=made_up, epochs=3, hidden=(5,), labels=0)
    reporter = SilentReporter()
    result = demo.run(settings, reporter)
    page = result.report.read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == list(SECTIONS)
    assert str(result.report.resolve()) in reporter.messages[-1]

    errors = []
    potential = load_model(result.model).potential
    for atoms in read(tmp_path / "out/test.extxyz", ":"):
        p = evaluate(potential, Structures.from_ase(atoms))
        if np.linalg.norm(atoms.arrays["REF_forces"], axis=1).max() < demo.LARGE:
            errors.append((float(p.energy[0]) - atoms.info["REF_energy"]) / len(atoms))
    assert result.energy_rmse == pytest.approx(1000 * np.sqrt(np.mean(np.square(errors))), rel=1e-6)
    assert f"{result.energy_rmse:.4g}" in page

    assert {p.name for p in result.polymorphs} == {"rutile", "anatase"}
    dft = {p.name: p for p in starter.dft_polymorphs(made_up)}
    gap = 1000 * abs(dft["rutile"].energy - dft["anatase"].energy)
    assert max(p.dft for p in result.polymorphs) == pytest.approx(gap)
    by_name = {p.name: p for p in result.polymorphs}
    assert by_name["anatase"].abc_dft == pytest.approx((3.8, 3.8, 9.6))
    assert "rutile" in page
    assert "9.6" in page

    more = demo.run(settings.model_copy(update={"epochs": 4}), SilentReporter())
    with (tmp_path / "out/run/metrics.csv").open() as file:
        assert len(file.readlines()) == 5, "four epochs after the header: the second call went on"
    assert more.energy_rmse != result.energy_rmse

    other = demo.run(settings.model_copy(update={"seed": 1}), SilentReporter())
    with (tmp_path / "out/run/metrics.csv").open() as file:
        assert len(file.readlines()) == 4, "another split of the data: begun anew, not refused"
    assert other.energy_rmse != more.energy_rmse


@pytest.mark.slow
def test_the_last_part_searches_while_a_potential_learns(tmp_path):
    job = adapt_settings(tmp_path / "adapt", 16, 0)
    less = {"rest": 24, "max_steps": 20, "final": 1, "final_steps": 2, "ask": job.ask.model_copy(update={"after": 16})}
    result = adapt.run(job.model_copy(update={"begin": 12} | less), SilentReporter())
    assert result.labels >= 16
    assert result.versions
    page = adapt_section(result).html()
    assert "potential of rigid ions" in page
    assert f"{len(result.versions)} versions" in page
    assert all(name in page for name in named(result))
