"""The macroscopic field of long-wave optical phonons: Born charges and dielectric tensor for phonopy.

    D_ab(q -> 0) += (4 pi k / V) (q Z*_a)(q Z*_b) / (q eps q) / sqrt(m_a m_b)

Force constants of a supercell do not hold it, since displacements repeat in the next one: at Γ optical modes along and
across a direction differ by this term, and beside Γ the waves are interpolated with that of dipoles (Gonze and Lee).
Charges of a model act on each other in vacuum, eps = 1: what it says of electrons is in the charges that move. Charges
of density functional theory, with its eps, come from a file.

Sources: R. M. Pick, M. H. Cohen and R. M. Martin, Phys. Rev. B 1, 910 (1970), doi:10.1103/PhysRevB.1.910; X. Gonze and
C. Lee, Phys. Rev. B 55, 10355 (1997), doi:10.1103/PhysRevB.55.10355.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from rutile.core.errors import FileError, SettingsError
from rutile.core.reporting import Reporter
from rutile.core.units import COULOMB
from rutile.potentials.potential import Potential
from rutile.simulate.dipoles import born_charges, polar_of
from rutile.structures.structures import Structures

LARGEST_SUM = 0.1
"""Born charges that add up to more than this (e) do not belong to the crystal."""


def born_of(
    primitive: Any, born: Path | Literal["model"], potential: Potential, symprec: float, reporter: Reporter
) -> dict[str, Any]:
    """What phonopy and phono3py call `nac_params`: Born charges, dielectric tensor, and the unit of Coulomb's law.

    Args:
        primitive: phonopy's atoms.
        born: a BORN file of phonopy for this primitive cell, or "model".
        potential: that may have charges.
        symprec: atoms nearer to a symmetric place than this are there (Angstrom).
        reporter: is warned of charges that do not act in the energy.

    Raises:
        SettingsError: the potential has no charges.
        FileError: the file cannot be read, or is for another crystal.
    """
    if born == "model":
        charges = _of_model(primitive, potential, symprec, reporter)
        return {"born": charges, "dielectric": np.eye(3), "factor": COULOMB}
    assert isinstance(born, Path)
    from phonopy.file_IO import parse_BORN

    try:
        found = parse_BORN(primitive, symprec=symprec, filename=born)
        charges = np.asarray(found["born"], dtype=float)
    except (OSError, ValueError, IndexError, TypeError, RuntimeError) as error:
        raise FileError(f"cannot read {born} as a BORN file of phonopy for {len(primitive)} atoms: {error}") from None
    if charges.shape != (len(primitive), 3, 3) or np.abs(charges.sum(0)).max() > LARGEST_SUM:
        raise FileError(
            f"{born}: Born charges of {len(charges)} atoms that add up to {np.abs(charges.sum(0)).max():.3g} e are not "
            f"those of a crystal of {len(primitive)}: one line for each atom that symmetry does not give"
        )
    return {"born": charges, "dielectric": np.asarray(found["dielectric"]), "factor": COULOMB}


def _of_model(primitive: Any, potential: Potential, symprec: float, reporter: Reporter) -> np.ndarray:
    """Born charges of a model, with the symmetry of the crystal and without a sum (e), [N, 3, 3]."""
    from phonopy.structure.symmetry import symmetrize_borns_and_epsilon

    polar = polar_of(potential)
    if polar is None:
        raise SettingsError(
            "born=model: the potential predicts no charges: take rigid_ion or anatase with electrostatics, or give a "
            "BORN file of phonopy"
        )
    if polar.kind == "atoms":
        reporter.warn("born=model: the energy of this model does not feel its charges: the splitting is not its own; a "
                      "BORN file with the dielectric tensor says more")  # fmt: skip
    one = Structures.from_arrays(primitive.numbers, primitive.positions, primitive.cell, np.ones(3, dtype=bool))
    raw = born_charges(one, polar).cpu().numpy()
    charges, _ = symmetrize_borns_and_epsilon(raw, np.eye(3), primitive, symprec=symprec)
    return np.asarray(charges)


def splitting(phonon: Any) -> float:
    """Largest rise of a frequency at Γ by the macroscopic field, along x, y or z of the reciprocal cell (THz).

    Args:
        phonon: a Phonopy object with force constants and `nac_params`.
    """

    def at(direction: list[float] | None) -> np.ndarray:
        phonon.run_qpoints([[0.0, 0.0, 0.0]], nac_q_direction=direction)
        return np.sort(phonon.get_qpoints_dict()["frequencies"][0])

    still = at(None)
    return float(max((at(d) - still).max() for d in ([1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0])))
