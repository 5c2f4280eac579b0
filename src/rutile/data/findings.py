"""What a census says: plain rows that survive JSON and read well as tables. Imports no torch."""

from __future__ import annotations

from rutile.core.settings import Result
from rutile.core.units import ElectronVolt


class FileRow(Result):
    """One file that was read."""

    file: str
    """Path."""
    format: str
    """How it was read."""
    frames: int
    """Usable frames."""
    unusable: int
    """Frames that cannot be used (see problems)."""


class LabelRow(Result):
    """One kind of label."""

    label: str
    """energy, forces or stress."""
    frames: int
    """Usable frames that have it."""
    missing: int
    """Usable frames without it."""
    found_as: str
    """Names under which it was found, with the number of frames for each if there are several."""
    unit: str
    """Unit that was assumed in the files."""


class ElementRow(Result):
    """One element."""

    element: str
    """Symbol."""
    frames: int
    """Frames that contain it."""
    atoms: int
    """Atoms of it in all frames."""
    isolated_atom: ElectronVolt | None
    """Energy of the isolated atom, if the files hold one."""


class CountRow(Result):
    """How many frames have something in common."""

    name: str
    """What they share."""
    frames: int
    """How many."""


class ExtremeRow(Result):
    """The frame at one end of a range."""

    quantity: str
    """What."""
    value: float
    """How much."""
    unit: str
    """Unit of the value."""
    where: str
    """File, 0-based frame, and atoms."""


class Census(Result):
    """What is in a set of files."""

    files: list[FileRow]
    """Files in the order in which they were read."""
    frames: int
    """Usable frames."""
    atoms: int
    """Atoms in them."""
    labels: list[LabelRow]
    """Labels and the names under which they were found."""
    other_keys: list[CountRow]
    """Names of other numbers in the files."""
    elements: list[ElementRow]
    """Elements in order of atomic number."""
    formulas: list[CountRow]
    """Commonest compositions (at most 20)."""
    n_formulas: int
    """Number of different compositions."""
    groups: list[CountRow]
    """Commonest groups (config_type; at most 20)."""
    calc_modes: list[CountRow]
    """Reference methods named in the files."""
    periodicity: list[CountRow]
    """Periodic directions."""
    extremes: list[ExtremeRow]
    """Ends of the ranges."""
    stress_sign: str
    """Whether the stresses have ASE's sign, how that was judged and how sure it is."""
    forces_against_energies: str
    """Whether forces and energies fit together in sign and unit, and how that was judged."""
    duplicates: int
    """Frames that repeat an earlier one (same distances, same energy)."""
    duplicate_pairs: list[str]
    """The first of them."""
    warnings: list[str]
    """What people should look at before they train on these files."""
    problems: list[str]
    """Frames that cannot be used, and why (the first 50)."""
    n_problems: int
    """Number of frames that cannot be used."""

    def count(self, label: str) -> int:
        """Frames that have a label."""
        return next(row.frames for row in self.labels if row.label == label)
