"""Write stored models of the present format for the tests: `python scripts/model_fixture.py`.

Run once for each new FORMAT of `potentials.save`; the files in tests/potentials/models must load for ever and are
never written again.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from ase.io import write

from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.parts.network import TrainablePotential
from rutile.potentials.save import FORMAT
from rutile.potentials.settings import AnataseSettings, BehlerSettings
from rutile.structures.structures import Structures, concatenate
from rutile.testing.strategies import random_structure

FOLDER = Path(__file__).parents[1] / "tests" / "potentials" / "models"


def behler(seed: int, known: Structures) -> TrainablePotential:
    """A small random descriptor potential with everything set that training sets."""
    settings = BehlerSettings.model_validate(
        {"auto": {"cutoff": 4.0, "n_radial": 3, "angular_etas": (0.05,), "zetas": (1.0, 4.0)}, "hidden": (4,)}
    )
    potential = make(settings, (8, 22), seed)
    graph = build_graph(known, find_edges(known, potential.cutoff))
    with torch.no_grad():
        potential.fit_scaling([(potential.describe(graph), known.numbers)])
    potential.set_energy_scale(0.7)
    potential.set_reference_energies({8: -432.25, 22: -1604.5})
    return potential


def anatase(seed: int, known: Structures) -> TrainablePotential:
    """A small random network on graphs with everything set that training sets."""
    sizes = {"channels": 3, "radial": 4, "sources": 2, "hidden": 5, "embedding": 3, "waves": 4, "radial_hidden": 5}
    potential = make(AnataseSettings.model_validate({**sizes, "cutoffs": (4.0, 4.0), "readout": 4}), (8, 22), seed)
    potential.learn_statistics([build_graph(known, find_edges(known, potential.cutoff))])
    potential.set_energy_scale(0.7)
    potential.set_reference_energies({8: -432.25, 22: -1604.5})
    return potential


MODELS = {"behler_committee": (behler, 2), "anatase": (anatase, 1)}
"""Name -> what makes a member, and the number of members."""


def main() -> None:
    """Write models, structures and expected numbers; never overwrites."""
    FOLDER.mkdir(exist_ok=True)
    known = concatenate(random_structure(s, [8, 8, 22, 8, 22, 8]) for s in range(4))
    for name, (member, n) in MODELS.items():
        path = FOLDER / f"v{FORMAT}_{name}.rutile"
        if path.exists():
            print(f"{path} exists: a stored model is never written again")
        else:
            store([member(seed, known) for seed in range(n)], path)


def store(members: list[TrainablePotential], path: Path) -> None:
    """Write a model with structures and what it says about them."""
    info = ModelInfo(
        elements=(8, 22), calc_modes=("PBE",), training_data="0" * 64, metrics={"valid": {"energy_mae": 0.001}}
    )
    model = Model(members, info)
    model.save(path)
    molecule = random_structure(9, [22, 8, 8], pbc=(False, False, False)).to_ase()[0]
    molecule.cell = np.zeros((3, 3))
    atoms = [random_structure(8, [22, 8, 8, 22, 8]).to_ase()[0], molecule]
    write(path.with_suffix(".extxyz"), atoms)
    p = model.evaluate(read_back(path.with_suffix(".extxyz")))
    expected = {name: getattr(p, name).tolist() for name in ("energy", "forces", "stress")}
    expected["info"] = info.model_dump(mode="json")
    path.with_suffix(".json").write_text(json.dumps(expected, indent=1))


def read_back(path: Path) -> list:
    """The structures as the test will read them."""
    from ase.io import read

    return read(path, ":")


if __name__ == "__main__":
    main()
