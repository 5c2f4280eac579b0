"""Bond-valence site energies against a plain sum, and the contract."""

import numpy as np
import pytest
from ase import Atoms
from ase.data import covalent_radii
from scipy.special import erfc

from rutile.core.errors import ElementError
from rutile.core.units import COULOMB
from rutile.potentials.bond_valence import BondValence
from rutile.potentials.evaluate import evaluate
from rutile.structures.structures import Structures


def some():
    rng = np.random.default_rng(4)
    return Atoms("Li2FeSPO3F", positions=np.arange(9)[:, None] * [1.3, 0.7, 0.4] + rng.normal(0, 0.3, (9, 3)))


def test_energies_are_those_of_a_plain_sum():
    atoms = some()
    expected = 0.0
    for i in (0, 1):
        for j, symbol in enumerate(atoms.symbols):
            r = np.linalg.norm(atoms.positions[i] - atoms.positions[j])
            if symbol in ("O", "F"):
                depth, best, alpha = (0.98816, 1.940013, 1.937984) if symbol == "O" else (0.49611, 1.87265, 1.968504)
                expected += depth / 2 * ((np.exp(alpha * (best - r)) - 1) ** 2 - 1)
            elif symbol != "Li":
                charge, n = {"Fe": (2, 4), "S": (6, 3), "P": (5, 3)}[symbol]
                reach = 0.74 * (covalent_radii[3] + covalent_radii[atoms.numbers[j]])
                expected += COULOMB * charge / (2 * n) ** 0.5 / r * erfc(r / reach)
    found = evaluate(BondValence(cutoff=40.0), Structures.from_ase([atoms]))
    assert float(found.energy[0]) == pytest.approx(expected, abs=1e-9)
    assert float(found.atom_energy[2:].abs().max()) == 0.0


def test_forces_are_slopes_also_where_the_energy_fades():
    atoms, potential, h = some(), BondValence(cutoff=6.0), 1e-5
    forces = evaluate(potential, Structures.from_ase([atoms])).forces.numpy()
    for k in range(len(atoms)):
        for axis in range(3):
            both = []
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[k, axis] += sign * h
                both.append(float(evaluate(potential, Structures.from_ase([moved])).energy[0]))
            assert forces[k, axis] == pytest.approx((both[1] - both[0]) / (2 * h), abs=1e-6)


def test_another_element_is_refused():
    with pytest.raises(ElementError, match="Li with O, F, P, S and Fe"):
        evaluate(BondValence(), Structures.from_ase([Atoms("LiCl", positions=[(0, 0, 0), (2, 0, 0)])]))
