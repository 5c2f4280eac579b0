"""Which structures an engine is made for, and the charge and spin of a molecule."""

from __future__ import annotations

from ase import Atoms

from rutile.core.elements import symbol
from rutile.label.labeler import Failure
from rutile.label.settings import EmtSettings, EngineBase, RigidIonSettings
from rutile.label.settings.common import Crystal, Molecule

EMT = {1, 6, 7, 8, 13, 28, 29, 46, 47, 78, 79}
"""Elements of effective medium theory in ASE."""
MOLECULES_ONLY = "computes molecules and clusters only: take engine=gpaw, or remove the periodicity of a cluster"
GAMMA_ONLY = "has no k-points, so that the energy of a crystal would depend on the cell chosen (rutile: by 0.5 eV/atom)"


def unsuitable(settings: EngineBase, atoms: Atoms) -> Failure | None:
    """The failure of a structure that the engine is not made for."""
    name = str(getattr(settings, "name", ""))
    if isinstance(settings, Molecule) and atoms.pbc.any():
        why = f"; it {GAMMA_ONLY}" if name == "xtb" else ""
        return Failure("unsuitable", f"{name} {MOLECULES_ONLY}{why}")
    if isinstance(settings, Crystal) and atoms.pbc.any() and abs(atoms.cell.complete().volume) < 1e-3:
        return Failure("unsuitable", "periodic, but its cell has no volume")
    known = {8, 22} if isinstance(settings, RigidIonSettings) else EMT if isinstance(settings, EmtSettings) else None
    unknown = sorted(set(atoms.numbers.tolist()) - known) if known is not None else []
    if known is not None and unknown:
        have = ", ".join(map(symbol, sorted(known)))
        return Failure("unsuitable", f"{name} does not know {', '.join(map(symbol, unknown))} (it knows {have})")
    if isinstance(settings, RigidIonSettings) and atoms.pbc.any() and not atoms.pbc.all():
        return Failure(
            "unsuitable", "rigid ions are for crystals and molecules: make slabs periodic in three directions"
        )
    return None


def charge_and_multiplicity(settings: Molecule, atoms: Atoms) -> tuple[int, int]:
    """Total charge (e) and 2S + 1 of a structure: its own, else those of the settings, else the lowest."""
    charge = int(atoms.info.get("charge", settings.charge))
    odd = (int(atoms.numbers.sum()) - charge) % 2
    given = atoms.info.get("multiplicity", settings.multiplicity)
    return charge, (2 if odd else 1) if given is None else int(given)
