"""Settings of data: reading labels from files (names, units, bad frames), splits, reference energies."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rutile.core.settings import Settings
from rutile.core.units import Angstrom, ElectronVolt

EnergyUnit = Literal["eV", "meV", "Hartree", "Ry", "kcal/mol", "kJ/mol"]
LengthUnit = Literal["Angstrom", "Bohr", "nm"]
StressUnit = Literal["eV/Angstrom^3", "GPa", "kbar"]
Format = Literal["extxyz", "cif", "poscar", "xsf", "n2p2", "deepmd", "traj", "db", "aselmdb"]

NET_FORCE = 0.05
"""A total force of a cell beyond this (eV/Angstrom) is worth a word."""


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
    """Name under which the files keep the reference method (calc mode) of a frame; "none": it is not read."""

    modes: dict[str, str] = {}
    """Reference method (calc mode) of all frames of a file, by its path, its name or a pattern, such as
    {pbe/*.extxyz: PBE, molecules.extxyz: wB97X}; comes before what the frames say."""

    weight_key: str = "config_weight"
    """Name under which the files keep the weight of a frame in the loss; 1 where absent."""

    on_bad: Literal["error", "skip"] = "error"
    """What to do with a frame that cannot be used (NaN, overlapping atoms, no cell, unknown element): stop, or leave it
    out and list it."""

    closest: Angstrom = Field(default=0.3, ge=0)
    """Two atoms nearer than this make a frame unusable."""


class SplitSettings(Settings):
    """How frames are divided into training, validation and test sets."""

    by: Literal["frames", "groups", "stratified"] = "frames"
    """frames: at random. groups: at random, frames of one group (see group_key) all on one side, as for snapshots of
    one trajectory. stratified: every group is divided in the same proportion."""

    valid: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of the frames used for validation. Not used with valid_files."""

    test: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of the frames kept for the final test. Not used with test_files."""

    valid_files: tuple[Path, ...] = ()
    """Frames read from these files are the validation set, whatever `by` says."""

    test_files: tuple[Path, ...] = ()
    """Frames read from these files are the test set, whatever `by` says."""

    duplicates: Literal["together", "ignore"] = "together"
    """together: frames of the same geometry, also if rotated, mirrored, shifted or reordered, are never divided between
    sides; between given files they are reported. ignore: no comparison is made."""

    @model_validator(mode="after")
    def _some_training(self) -> Self:
        if self.valid + self.test >= 1:
            raise ValueError(f"valid + test = {self.valid + self.test:g} leaves nothing to train on; keep it below 1")
        return self


class ReferenceSettings(Settings):
    """Energy of the isolated atom of each element: the zero from which a potential counts."""

    method: Literal["auto", "isolated_atoms", "least_squares"] = "auto"
    """isolated_atoms: energies of single-atom frames without neighbours in the data. least_squares: a sum over the
    composition fitted to the energies. auto: isolated atoms if the data hold one of every element, otherwise least
    squares."""

    energies: dict[str, ElectronVolt] = {}
    """Energies that are known, by element, such as {Ti: -1604.4, O: -432.3}; they come before any method."""

    by_mode: dict[str, dict[str, ElectronVolt]] = {}
    """Energies that are known in one reference method, such as {PBE: {Ti: -1604.4}}; they come before `energies`."""
