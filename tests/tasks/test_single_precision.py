"""Properties by a potential in float32 are those in float64, but for rounding."""

import json

import pytest
from ase.build import bulk, molecule
from ase.io import write

from rutile.cli.main import main

CASES = {
    "eos": (["points=5"], {"volume": 1e-3, "bulk_modulus": 2e-3}),
    "elastic": ([], {"bulk_modulus": 1e-3, "shear_modulus": 1e-3, "debye_temperature": 1e-3}),
    "phonons": (["supercell=2,2,2"], {"highest": 1e-3, "zero_point": 1e-3, "heat_capacity": 1e-3}),
    "conductivity": (["supercell=3,3,3", "mesh=7,7,7", "temperatures=[300]"], {"kappa": 0.05}),
    "expansion": (
        ["supercell=2,2,2", "volumes=5", "max_temperature=600"],
        {"volume": 1e-3, "expansion": 1e-2, "bulk_modulus": 5e-3},
    ),
    "vibrations": ([], {"energy": 1e-4, "highest": 1e-3, "zero_point": 1e-3, "gibbs": 1e-2}),
    "surfaces": (["thickness=5", "miller=[[1,1,1]]"], {"energy": 1e-3, "unrelaxed": 1e-3}),
    "defects": (["length=6"], {"formation": 1e-3, "unrelaxed": 1e-3}),
    "boundaries": (
        ["axes=[[1,0,0]]", "planes=[[0,-2,1]]", "shifts=2,2", "thickness=4", "merge=0.6"],
        {"energy": 1e-3, "area": 1e-4},
    ),
    "hull": (["references={Cu: -0.007}"], {"energy": 3e-3}),
}
"""Task -> settings, fields and how far they may differ (relative)."""


@pytest.mark.slow
@pytest.mark.parametrize("task", CASES)
def test_float32_gives_nearly_the_same(task, tmp_path):
    write(tmp_path / "x.extxyz", molecule("H2O") if task == "vibrations" else bulk("Cu", a=3.65))
    words, close = CASES[task]
    rows = []
    for precision in ("float64", "float32"):
        out = tmp_path / precision
        assert (
            main([task, str(tmp_path / "x.extxyz"), "model=emt", f"precision={precision}", f"out={out}", *words]) == 0
        )
        told = json.loads((out / "result.json").read_text())
        rows.append(next(value for value in told.values() if isinstance(value, list) and "outcome" in value[0])[0])
    exact, rounded = rows
    assert rounded["outcome"] == exact["outcome"] == "done"
    for name, tolerance in close.items():
        assert rounded[name] == pytest.approx(exact[name], rel=tolerance), name
    assert rounded != exact  # it was computed in another precision
