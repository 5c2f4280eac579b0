"""Symmetry functions against the reference vectors (read when the shared folder lies beside the checkout)."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rutile.core.elements import number
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.evaluate import evaluate
from rutile.potentials.parts.cutoff import CUTOFFS, cutoff
from rutile.potentials.parts.symmetry_eager import symmetry_functions, symmetry_jacobian
from rutile.potentials.parts.tables import expand, read_table
from rutile.structures.structures import Structures

SPEC = Path(__file__).parents[2].parent / "shared" / "spec"
pytestmark = pytest.mark.skipif(not SPEC.is_dir(), reason="no reference vectors beside this checkout")
TABLES = {"tio2": "tio2_artrith_urban_2016", "cuauoh": "cuauoh_artrith"}
NAMES = ["TiO2_trimer", "TiO2_rutile_rattled", "TiO2_small_triclinic", "CuAuOH_cluster", "CuAuOH_slab"]


def vectors(name=None):
    data = json.loads((SPEC / "bp_vectors.json").read_text())
    return data if name is None else next(s for s in data["structures"] if s["name"] == name)


def structures(case):
    numbers = np.array([number(s) for s in case["symbols"]])
    return Structures.from_arrays(numbers, case["positions"], case["cell"], case["pbc"])


class Probe:
    """E_i = sum_k cos(0.7 k + 0.3 (s_i + 1)) G_ik, the probe energy of the vectors."""

    def __init__(self, table, order):
        self.table, self.cutoff, self.elements = table, table.cutoff, table.elements
        self.rank = {number(s): n for n, s in enumerate(order)}

    def __call__(self, graph):
        g = symmetry_functions(self.table, graph)
        s = torch.tensor([self.rank[int(z)] for z in graph.numbers], dtype=g.dtype)
        k = torch.arange(1, g.shape[1] + 1, dtype=g.dtype)
        return (torch.cos(0.7 * k + 0.3 * (s[:, None] + 1)) * g).sum(1)


@pytest.mark.parametrize("name", NAMES)
def test_features_agree_to_1e10(name):
    case = vectors(name)
    table = expand(read_table(TABLES[case["table"]]))
    batch = structures(case)
    graph = build_graph(batch, find_edges(batch, table.cutoff))
    expected = torch.tensor(case["G"], dtype=torch.float64)
    scale = expected.abs().clamp_min(1e-6)
    for g in (symmetry_functions(table, graph), symmetry_jacobian(table, graph)[0]):
        assert g.shape == expected.shape
        assert ((g - expected).abs() / scale).max() < 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_probe_forces_and_stress(name):
    case = vectors(name)
    probe = Probe(expand(read_table(TABLES[case["table"]])), case["probe_species_order"])
    out = evaluate(probe, structures(case))
    assert abs(float(out.energy[0]) - case["probe_energy"]) < 1e-10 * max(1.0, abs(case["probe_energy"]))
    forces = torch.tensor(case["probe_forces"], dtype=torch.float64)
    assert (out.forces - forces).abs().max() < 2e-6 * max(1.0, float(forces.abs().max()))
    if case["probe_stress"] is not None:
        stress = torch.tensor(case["probe_stress"], dtype=torch.float64)
        assert (out.stress[0] - stress).abs().max() < 2e-6 * max(1.0, float(stress.abs().max()))


@pytest.mark.parametrize("name", sorted(CUTOFFS))
def test_cutoff_values(name):
    for r, value in vectors()["cutoff_values_rc_6p5"][name]:
        assert math.isclose(
            float(cutoff(name, torch.tensor(r, dtype=torch.float64), 6.5)), value, rel_tol=1e-12, abs_tol=1e-14
        )


def _published_rows(name):
    data = json.loads((SPEC / f"symmetry_functions_{name}.json").read_text())
    return data, [
        (f["type"], tuple(sorted(number(s) for s in f["neighbors"])), f["eta"], f["r_s"], f["r_c"],
         f.get("lambda", 0.0), f.get("zeta", 0.0))
        for f in data["functions"]
    ]  # fmt: skip


def _our_rows(table, center):
    return [(f.kind, f.neighbors, f.eta, f.r_s, f.r_c, f.lambda_, f.zeta) for f in table.functions[center]]


@pytest.mark.parametrize("name", ["tio2", "cuauoh"])
def test_tables_equal_the_published_rows_in_order(name):
    data, rows = _published_rows(name)
    table = expand(read_table(TABLES[name]))
    assert table.elements == tuple(sorted(number(s) for s in data["central_elements"]))
    for center in table.elements:
        assert _our_rows(table, center) == rows


def test_bohr_variant_scales_the_etas():
    data, rows = _published_rows("cuauoh")
    variant = data["provenance"]["eta_bohr_variant"]
    expected = [(k, n, variant[str(eta)], *rest) for k, n, eta, *rest in rows]
    assert _our_rows(expand(read_table("cuauoh_artrith_bohr")), 29) == expected
