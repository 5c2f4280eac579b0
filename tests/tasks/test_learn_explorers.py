"""`rutile learn` with every explorer, from plan to retrained committee: molecules by xTB, TiO2 by rigid ions."""

import csv
import json
from collections import Counter
from importlib.util import find_spec

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.spacegroup import crystal

import rutile
from rutile.core.config import load
from rutile.core.reporting import SilentReporter
from rutile.tasks import learn
from rutile.tasks.learn import LearnSettings
from rutile.train import figures

pytestmark = pytest.mark.slow
COMMITTEE = {
    "potential": {"name": "behler", "hidden": [6], "auto": {"cutoff": 4.0}}, "members": 2, "epochs": 40,
    "batch_size": 4, "optimizer": {"name": "adam", "learning_rate": 0.02}, "valid": 0.3, "workers": 1, "threads": 1,
    "tensorboard": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(figures, "svg", lambda figure: "<svg></svg>")


def learned(folder, **plan):
    """One round of a plan, with levels that make nearly all that is met a candidate."""
    whole = {"committee": COMMITTEE, "retrain": {"name": "warm", "epochs": 5}, "out": str(folder / "learn")}
    whole |= {"choose": {"budget": 30, "low": 1e-6, "high": 1e6, "max_force": 1e6, "method": "random"}}
    whole |= {"stop": {"rounds": 1, "candidates": 0.0}, "self_check": False}
    (folder / "plan.yaml").write_text(json.dumps(whole | plan))
    result = learn.run(load(LearnSettings, [folder / "plan.yaml"]), SilentReporter())
    return result, result.table.parent


def met(out):
    """Structures of the first round by system and explorer, and how the runs ended."""
    frames = ase.io.read(out / "round-01" / "explored.extxyz", ":")
    ends = [json.loads(path.read_text()) for path in sorted((out / "round-01" / "explored").glob("*.json"))]
    kinds = {}
    for atoms in frames:
        kinds.setdefault(atoms.info["config_type"], []).append(atoms)
    return kinds, {(e["system"], e["explorer"]): e["ended"] for e in ends if "ended" in e}


def labelled_kinds(out):
    return Counter(a.info["config_type"] for a in ase.io.read(out / "round-01" / "labelled.extxyz", ":"))


def last_row(out):
    with (out / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))[-1]


@pytest.mark.skipif(find_spec("tblite") is None, reason="no tblite: pip install 'rutile[xtb]'")
@pytest.mark.skipif(find_spec("rdkit") is None, reason="no rdkit: pip install 'rutile[molecules]'")
def test_molecules_are_explored_along_their_normal_modes_and_by_builders(tmp_path):
    seeds = [molecule("H2O"), molecule("NH3")]
    ase.io.write(tmp_path / "seeds.extxyz", seeds)
    ase.io.write(tmp_path / "pool.extxyz", [seeds[1]] * 4)
    modes = {"name": "molecule", "molecules": {"smiles": ["O", "N"]}, "modes": {"temperature": [300, 1500]}}
    explorers = [
        {"name": "normal_modes", "count": 10, "temperature": [300, 600]},
        {"name": "relax", "runs": 2, "steps": 4, "every": 2},
    ]
    others = [
        {"name": "generate", "steps": [modes | {"count": 5}]},
        {"name": "files", "files": [str(tmp_path / "pool.extxyz")], "count": 3},
    ]
    result, out = learned(
        tmp_path,
        initial={"steps": [modes | {"count": 20}]},
        systems=[
            {"label": "organic", "files": [str(tmp_path / "seeds.extxyz")], "explorers": explorers},
            {"label": "more", "explorers": others},
        ],
        engine={"name": "xtb"},
    )
    kinds, ends = met(out)
    assert set(kinds) == {"organic-normal_modes", "organic-relax", "more-generate", "more-files"}
    assert {len(a) for a in kinds["organic-normal_modes"]} <= {3, 4}
    displaced = [a for a in kinds["organic-normal_modes"] if "temperature" in a.info]
    assert len(displaced) >= 3
    assert all(300 <= a.info["temperature"] <= 600 for a in displaced)
    assert len(kinds["more-generate"]) == 5
    assert len(kinds["more-files"]) == 3
    assert ends["more", "generate"] == ends["more", "files"] == "to its end"
    row = last_row(out)
    assert int(row["labelled"]) == int(row["chosen"]) == sum(labelled_kinds(out).values()) - 3  # free H, N and O
    assert labelled_kinds(out)["organic-normal_modes"] > 0
    atoms = seeds[0].copy()
    atoms.calc = rutile.load(result.model).calculator()
    assert np.isfinite(atoms.get_potential_energy())


def test_oxides_are_explored_along_paths_at_random_and_from_a_pool(tmp_path):
    """Of rutile, two oxygen atoms change their places; all that is met is labelled by rigid ions."""
    start = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.96, 90, 90, 90])
    end = start.copy()
    end.positions[[2, 3]] = end.positions[[3, 2]]
    ase.io.write(tmp_path / "start.extxyz", start)
    ase.io.write(tmp_path / "end.extxyz", end)
    crystals = {"elements": ["Ti", "O"], "prototypes": ["rutile"]}
    ends = {"start": str(tmp_path / "start.extxyz"), "end": str(tmp_path / "end.extxyz")}
    explorers = [
        {"name": "relax", "runs": 2, "steps": 4, "every": 2, "cell": "full"},
        {"name": "random", "count": 4, "atoms": [6, 6]},
        {"name": "files", "files": [ends["end"]]},
    ]
    _, out = learned(
        tmp_path,
        initial={"steps": [{"name": "bulk", "crystals": crystals, "atoms": 6, "count": 12, "rattle": [0.02, 0.2]}]},
        systems=[
            {"label": "path", "explorers": [{"name": "neb", "images": 3, "steps": 6, "every": 3} | ends]},
            {"label": "oxide", "files": [ends["start"]], "explorers": explorers},
        ],
        engine={"name": "rigid_ion"},
    )
    kinds, ends = met(out)
    assert set(kinds) == {"path-neb", "oxide-relax", "oxide-random", "oxide-files"}
    assert len(kinds["path-neb"]) >= 5  # ends and images, at least as interpolated
    assert all(a.get_chemical_formula() == "O4Ti2" for a in kinds["path-neb"])
    assert len(kinds["oxide-random"]) == 4
    assert ends["oxide", "random"] == "to its end"
    between = kinds["path-neb"][2]  # the middle of the band: both atoms are on their way
    moved = np.linalg.norm(between.positions[[2, 3]] - kinds["path-neb"][0].positions[[2, 3]], axis=1)
    assert moved.min() > 0.5
    row = last_row(out)
    assert int(row["labelled"]) + int(row["label_failures"]) == int(row["chosen"]) > 5
    assert {"path-neb", "oxide-random"} <= set(labelled_kinds(out))
    assert float(row["valid_force_rmse"]) > 0
