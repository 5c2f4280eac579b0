"""Settings of reading reference data: which labels under which names, in which units, what to do with bad frames."""

from typing import Literal

from pydantic import Field

from rutile.core.settings import Settings

EnergyUnit = Literal["eV", "meV", "Hartree", "Ry", "kcal/mol", "kJ/mol"]
LengthUnit = Literal["Angstrom", "Bohr", "nm"]
StressUnit = Literal["eV/Angstrom^3", "GPa", "kbar"]
Format = Literal["extxyz", "cif", "poscar", "xsf", "n2p2", "deepmd", "traj", "db", "aselmdb"]


class ReadSettings(Settings):
    """How to read labelled structures from files."""

    format: Format | None = None
    """Format of the files; without it the name of each file (and its first bytes) decide."""

    energy_key: str | None = None
    """Name under which the files keep the total energy. Without it: REF_energy, dft_energy and the like, then
    the energy of ASE's calculator slot; two different values are an error. "none": do not read energies."""

    forces_key: str | None = None
    """Name under which the files keep the forces, as for energy_key."""

    stress_key: str | None = None
    """Name under which the files keep the stress (or the virial, if the name contains "virial"), as for energy_key."""

    energy_unit: EnergyUnit | None = None
    """Unit of energies in the files; forces and virials follow. Without it the convention of the format: eV, and
    Hartree for n2p2."""

    length_unit: LengthUnit | None = None
    """Unit of positions and cells in the files. Without it the convention of the format: Angstrom, and Bohr for
    n2p2."""

    stress_unit: StressUnit | None = None
    """Unit of stresses in the files; without it energy unit / length unit^3. Virials are in the energy unit."""

    stress_sign: Literal["tension", "compression"] = "tension"
    """Which state has a positive stress in the files: tension (ASE), or compression (a pressure, as VASP prints it)."""

    group_key: str = "config_type"
    """Name under which the files keep the kind of frame, for errors by group and splits by group."""

    mode_key: str = "calc_mode"
    """Name under which the files keep the reference method of a frame."""

    weight_key: str = "config_weight"
    """Name under which the files keep the weight of a frame in the loss; 1 where absent."""

    on_bad: Literal["error", "skip"] = "error"
    """What to do with a frame that cannot be used (NaN, overlapping atoms, no cell, unknown element): stop, or leave it
    out and list it."""

    closest: float = Field(0.3, ge=0, json_schema_extra={"unit": "Å"})
    """Two atoms nearer than this make a frame unusable."""
