"""From settings of forces to an ASE calculator; for builders, in this process or in others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rutile.build.forces_settings import EmtForces, ModelForces, RigidIonForces, XtbForces
from rutile.core.errors import MissingPackageError, SettingsError

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


def calculator(forces: object) -> Calculator:
    """The calculator that settings of forces name.

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
