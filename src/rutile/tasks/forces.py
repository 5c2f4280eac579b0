"""Forces and motion for builders, in this process or in others: from settings to calculators, potentials and melts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from rutile.build.forces_settings import EmtForces, ModelForces, RigidIonForces, XtbForces
from rutile.build.recipe import Mechanics
from rutile.core.errors import MissingPackageError, SettingsError

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from rutile.build.forces_settings import CrystalForces
    from rutile.build.recipe import Melting, Snapshot
    from rutile.build.settings import Melt
    from rutile.potentials.potential import Potential


def calculator(forces: object) -> Calculator:
    """The ASE calculator that settings of forces name.

    Raises:
        ModelFileError: the model cannot be read.
        MissingPackageError: the package of a method is not installed.
        SettingsError: no calculator of ASE stands behind these settings.
    """
    if isinstance(forces, ModelForces):
        from rutile.potentials.save import load_model

        return load_model(forces.file).calculator(device=forces.device, mode=forces.mode, head_spread=False)
    if isinstance(forces, EmtForces):
        from ase.calculators.emt import EMT

        emt: Calculator = EMT()
        return emt
    if isinstance(forces, RigidIonForces):
        from rutile.potentials.calculator import RutileCalculator
        from rutile.potentials.rigid_ion import RigidIon

        return RutileCalculator([RigidIon()])
    if isinstance(forces, XtbForces):
        try:
            from tblite.ase import TBLite
        except ImportError:
            raise MissingPackageError("forces=xtb needs the package tblite: pip install 'rutile[xtb]'") from None
        xtb: Calculator = TBLite(method=forces.method, verbosity=0)
        return xtb
    raise SettingsError(f"forces = {getattr(forces, 'name', forces)}: gives no forces here; choose emt, xtb or model")


def potential(forces: CrystalForces) -> Potential:
    """The potential that settings of forces name; of a committee the mean.

    Raises:
        ModelFileError: the model cannot be read.
    """
    from rutile.potentials.combine import mean_potential
    from rutile.potentials.emt import Emt
    from rutile.potentials.rigid_ion import RigidIon
    from rutile.potentials.save import load_model

    if isinstance(forces, ModelForces):
        model = load_model(forces.file)
        return mean_potential(model.calculator(device=forces.device, mode=forces.mode, head_spread=False).potentials)
    return Emt() if isinstance(forces, EmtForces) else RigidIon()


def melts(melt: Melt) -> Melting:
    """Molecular dynamics for melts, many at once.

    Raises:
        ModelFileError: the model cannot be read.
    """
    return partial(_melts, melt, potential(melt.forces))


def _melts(
    melt: Melt, moving: Potential, starts: Sequence[Atoms], temperatures: Sequence[float], seed: int
) -> list[list[Snapshot] | None]:
    from rutile.simulate.md.melts import melts as run

    return run(starts, melt, moving, temperatures, seed)


MECHANICS = Mechanics(calculator, melts)
"""What builders are given."""
