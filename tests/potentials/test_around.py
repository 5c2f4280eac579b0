"""Terms beside a network: core repulsion, dispersion, and sums of potentials."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.data import covalent_radii
from pydantic import TypeAdapter

from rutile import load
from rutile.core.errors import ElementError, SettingsError
from rutile.core.units import BOHR, COULOMB, HARTREE
from rutile.graph.graph import build_graph, within
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.potentials.combine import Sum
from rutile.potentials.dispersion import Dispersion
from rutile.potentials.evaluate import evaluate
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.parts.repulsion import zbl
from rutile.potentials.settings import BehlerSettings, DispersionSettings, PotentialSettings, SumSettings, ZBLSettings
from rutile.potentials.zbl import ZBL
from rutile.structures.structures import Structures, concatenate
from rutile.testing.potential_contract import cluster, potential_contract
from rutile.testing.strategies import random_structure

SPEC = Path(__file__).resolve().parents[2].parent / "shared" / "spec"
needs_spec = pytest.mark.skipif(not SPEC.is_dir(), reason=f"the reference vectors are not at {SPEC}")
SMALL = {"auto": {"cutoff": 4.0, "n_radial": 3, "angular_etas": (0.05,), "zetas": (1.0,)}, "hidden": (4,)}
OXIDE = (8, 22)


def short_dispersion(**changes):
    return DispersionSettings.model_validate({"cutoff": 6.0, "cn_cutoff": 5.0, "smoothing": 1.5} | changes)


class TestZBL(potential_contract(lambda: make(ZBLSettings(end=1.0), OXIDE))):
    """The contract, far-reaching; the term still tells elements apart nearer than the contract looks."""

    def test_an_atom_sees_the_element_of_its_neighbour(self, potential):
        near = concatenate([cluster([z, x], [[0, 0, 0], [1.0, 0, 0]]) for z in OXIDE for x in OXIDE])
        energy = evaluate(potential, near).atom_energy.reshape(2, 2, 2)[:, :, 0]
        assert (energy.diff(dim=0) > 1).all()
        assert (energy.diff(dim=1) > 1).all()


TestD3 = potential_contract(lambda: make(short_dispersion(), OXIDE))
TestSum = potential_contract(
    lambda: make(
        SumSettings.model_validate(
            {"terms": [{"name": "behler"} | SMALL, {"name": "zbl"}, short_dispersion(cutoff=5.0, cn_cutoff=4.5)]}
        ),
        OXIDE,
    )
)


@needs_spec
def test_zbl_agrees_with_the_vectors():
    for z_i, z_j, r, expected in json.loads((SPEC / "misc_vectors.json").read_text())["values"]["zbl_eV"]:
        x, y, d = (torch.tensor(float(v), dtype=torch.float64) for v in (z_i, z_j, r))
        assert float(zbl(x, y, d)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.slow
def test_zbl_is_coulomb_at_contact_and_ends_before_bonds_begin():
    potential = ZBL(ZBLSettings(), OXIDE)
    for z_i, z_j in itertools.combinations_with_replacement(OXIDE, 2):
        r = torch.linspace(1e-4, 4.0, 400, dtype=torch.float64)
        pair = [evaluate(potential, cluster([z_i, z_j], [[0, 0, 0], [float(d), 0, 0]])) for d in r]
        energy = torch.cat([p.energy for p in pair])
        assert float(energy[0] * r[0]) == pytest.approx(COULOMB * z_i * z_j, rel=1e-2)
        bond = float(covalent_radii[[z_i, z_j]].sum())
        assert (energy[r < 0.75 * bond].diff() < 0).all()
        assert (energy[r > 0.8 * bond] == 0).all()
        assert float(energy[r < 0.5 * bond].min()) > 1.0  # eV: repels well inside a bond


@needs_spec
@pytest.mark.parametrize("three_body", [False, True])
def test_d3_agrees_with_simple_dftd3(three_body):
    """Energies to 1e-6 eV, forces without triples to 1e-6 eV/A, at that code's cutoffs."""
    vectors = json.loads((SPEC / "d3_vectors.json").read_text())
    seen = 0
    for v in vectors["structures"]:
        if three_body and any(v["pbc"]):
            continue  # millions of triples at 21 A; the molecules have the same code
        numbers = np.array([{"Ar": 18, "H": 1, "O": 8, "C": 6, "Cu": 29, "Na": 11, "Cl": 17}[s] for s in v["symbols"]])
        one = Structures.from_arrays(numbers, np.array(v["positions"]), np.array(v["cell"]), np.array(v["pbc"]))
        settings = DispersionSettings(functional=v["xc"], cutoff=60 * BOHR, cn_cutoff=40 * BOHR, smoothing=0,
                                      three_body=three_body, three_body_cutoff=40 * BOHR)  # fmt: skip
        p = evaluate(make(settings, tuple(sorted(set(numbers.tolist())))), one)
        assert float(p.energy) == pytest.approx(v[f"E_eV_atm{int(three_body)}"], abs=vectors["tolerance_eV"])
        if not three_body:
            expected = torch.tensor(v["forces_eV_A"], dtype=torch.float64)
            torch.testing.assert_close(p.forces, expected, rtol=0, atol=1e-6)
        seen += 1
    assert seen >= 8


def test_d3_of_a_triple_is_the_formula_for_three_atoms():
    """The three-body energy of an equilateral triangle, worked out from the pair coefficients."""
    side = 3.5
    positions = [[0, 0, 0], [side, 0, 0], [side / 2, side * math.sqrt(3) / 2, 0]]
    three = cluster([18, 18, 18], positions)
    energies = []
    for three_body in (False, True):
        settings = DispersionSettings(three_body=three_body, smoothing=0)
        energies.append(float(evaluate(make(settings, (18,)), three).energy))
    potential = Dispersion(DispersionSettings(smoothing=0), (18,))
    graph = build_graph(three, find_edges(three, potential.cutoff))
    r = graph.vectors.norm(dim=1) / BOHR
    position = potential.position(graph.numbers)
    weights = potential._weights(graph, position, r)
    c6 = float(potential._c6(graph.i[:1], graph.j[:1], weights, position))
    damping = 1 / (1 + 6 * (4 / 3 * float(potential.vdw[0, 0]) * BOHR / side) ** 16)
    expected = c6**1.5 * (3 / 8 + 1) / (side / BOHR) ** 9 * damping * HARTREE
    assert energies[1] - energies[0] == pytest.approx(expected, rel=1e-8)


def test_d3_is_smooth_at_its_cutoff_and_close_to_the_long_one():
    long = make(DispersionSettings(cutoff=30, cn_cutoff=20), (18,))
    default = make(DispersionSettings(), (18,))
    pair = [cluster([18, 18], [[0, 0, 0], [r, 0, 0]]) for r in (3.8, 5.0, 8.0)]
    for one in pair:
        assert float(evaluate(default, one).energy) == pytest.approx(float(evaluate(long, one).energy), abs=1e-6)


def test_no_parameters_for_a_superheavy_element():
    with pytest.raises(ElementError, match="no parameters for Og"):
        make(DispersionSettings(), (8, 118))


def test_a_sum_is_the_sum_of_its_terms_each_within_its_own_cutoff():
    terms = [
        make(BehlerSettings.model_validate(SMALL), OXIDE, 3),
        make(short_dispersion(), OXIDE),
        make(ZBLSettings(), OXIDE),
    ]
    terms[0].set_reference_energies({8: -430.0, 22: -1600.0})
    a = concatenate([random_structure(k, [8, 22, 8, 8, 22, 8]) for k in range(3)])
    alone = [evaluate(term, a) for term in terms]
    whole = Sum.of(terms)
    assert whole.reference.by_element() == {8: -430.0, 22: -1600.0}
    together = evaluate(whole, a)
    for name in ("energy", "forces", "stress", "atom_energy"):
        torch.testing.assert_close(getattr(together, name), sum(getattr(p, name) for p in alone))
    assert len({term.cutoff for term in terms}) == 3


def test_a_sum_of_potentials_for_different_elements_is_refused():
    with pytest.raises(SettingsError, match="different elements"):
        Sum.of([make(ZBLSettings(), OXIDE), make(ZBLSettings(), (8,))])


def test_within_keeps_the_short_edges_only():
    a = random_structure(0, [8, 22, 8])
    graph = build_graph(a, find_edges(a, 6.0))
    short, direct = within(graph, 4.0), build_graph(a, find_edges(a, 4.0))
    assert 0 < len(short.i) < len(graph.i)
    torch.testing.assert_close(short.vectors.norm(dim=1).sort().values, direct.vectors.norm(dim=1).sort().values)


def test_networks_repel_at_contact_whatever_their_weights_and_only_there():
    given = {"name": "schnet", "features": 8, "interactions": 1, "cutoff": 4.0}
    schema = TypeAdapter(PotentialSettings)
    with_core, without = (make(schema.validate_python(given | {"zbl": on}), OXIDE) for on in (True, False))
    for z_i, z_j in itertools.combinations_with_replacement(OXIDE, 2):
        bond = float(covalent_radii[[z_i, z_j]].sum())
        near, far = (cluster([z_i, z_j], [[0, 0, 0], [x * bond, 0, 0]]) for x in (0.3, 0.81))
        assert float(evaluate(with_core, near).energy) > 10.0  # eV
        assert float(evaluate(with_core, near).forces[1, 0]) > 10.0
        assert torch.equal(evaluate(with_core, far).forces, evaluate(without, far).forces)


def test_a_trained_model_with_dispersion_on_top_is_saved_and_loaded(tmp_path):
    network = make(BehlerSettings.model_validate(SMALL), OXIDE, 3, ("pbe",))
    network.set_reference_energies({8: -430.0, 22: -1600.0})
    a = random_structure(4, [8, 22, 8, 8])
    separate = evaluate(network, a).energy + evaluate(make(DispersionSettings(), OXIDE), a).energy
    dispersion = make(DispersionSettings(), OXIDE, modes=network.modes)
    Model([Sum.of([network, dispersion])], ModelInfo(elements=OXIDE)).save(tmp_path / "both.rutile")
    assert float(load(tmp_path / "both.rutile").evaluate(a).energy) == pytest.approx(float(separate), abs=1e-9)
