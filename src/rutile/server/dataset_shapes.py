"""What is asked of data sets, and answered."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rutile.core.settings import Result, Settings
from rutile.server.shapes import Name

Privacy = Literal["private", "group", "public"]
Column = Literal["energy_per_atom", "fmax", "atoms", "volume_per_atom", "pressure", "nearest", "net_force"]
CheckName = Literal["no_energy", "no_forces", "no_stress", "large_forces", "net_forces", "outliers", "close_atoms",
                    "copies", "isolated_atoms", "lonely_atoms"]  # fmt: skip
Text = Annotated[str, Field(max_length=20_000)]


class DatasetWish(Settings):
    """A data set, or a new version of one."""

    name: Name
    """Its name."""
    file: Annotated[str, Field(max_length=500)]
    """upload:abc, job:12/labelled.extxyz, or dataset:3 for a copy."""
    description: Text = ""
    """What it holds."""
    licence: Annotated[str, Field(max_length=200)] = ""
    """Under which it may be used."""
    source: Annotated[str, Field(max_length=1000)] = ""
    """Where it comes from: DOI, address."""
    privacy: Privacy = "private"
    """Who may see it."""


class VersionWish(Settings):
    """A new version."""

    file: Annotated[str, Field(max_length=500)]
    """upload:abc or job:12/labelled.extxyz."""


class DatasetChange(Settings):
    """What is to be changed; what is not given stays."""

    name: Name | None = None
    """Its name."""
    description: Text | None = None
    """What it holds."""
    licence: Annotated[str, Field(max_length=200)] | None = None
    """Under which it may be used."""
    source: Annotated[str, Field(max_length=1000)] | None = None
    """Where it comes from."""
    privacy: Privacy | None = None
    """Who may see it."""


class Finding(Result):
    """What should be looked at."""

    name: str
    """Of the check, as selections name it; "modes": of all structures."""
    text: str
    """What was found."""
    frames: int
    """In so many structures."""


class VersionView(Result):
    """A version."""

    number: int
    """dataset:ID@NUMBER in settings."""
    sha256: str
    """Of the file: same content, same hash."""
    file: str
    """Name of the file."""
    state: str
    """reading, ready or refused."""
    reason: str
    """Why it was refused, or what was left out."""
    created: float
    """When it came (s since 1970)."""
    bytes: int
    """Size of the file."""
    frames: int
    """Structures that can be used."""
    atoms: int
    """Of all structures."""
    elements: dict[str, int]
    """Element -> structures that hold it."""
    labels: dict[str, int]
    """energy, forces, stress -> structures that have it."""
    checks: list[Finding]
    """What should be looked at: outliers, copies, labels that are missing."""
    groups: dict[str, int]
    """Kind of structure -> how many."""
    modes: dict[str, int]
    """Calc mode -> how many."""


class DatasetView(Result):
    """A data set."""

    id: int
    """Its number: dataset:ID in settings."""
    name: str
    """Its name."""
    owner: str
    """Whose it is."""
    mine: bool
    """Whether the one who asks may change it."""
    privacy: str
    """Who may see it."""
    description: str
    """What it holds."""
    licence: str
    """Under which it may be used."""
    source: str
    """Where it comes from."""
    created: float
    """When it came (s since 1970)."""
    versions: list[VersionView]
    """Oldest first."""


class DatasetPage(Result):
    """A page of the list."""

    items: list[DatasetView]
    """Data sets of this page."""
    total: int
    """Data sets that fit the filter."""


class Histogram(Result):
    """How often values occur."""

    column: str
    """Of what."""
    unit: str
    """Its unit."""
    edges: list[float]
    """Of the bins, one more than counts."""
    counts: list[int]
    """Structures in each bin."""
    selected: int
    """Structures that fit the filter."""


class Points(Result):
    """Two numbers of some structures, for a scatter plot where a click shows the structure."""

    x: list[float | None]
    """First number."""
    y: list[float | None]
    """Second number."""
    frames: list[int]
    """Which structure each point is."""
    selected: int
    """Structures that fit the filter; these are some of them, evenly."""


class Selection(Settings):
    """Which structures are meant."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Of this version; default the newest one."""
    elements: Annotated[str, Field(max_length=500, pattern=r"^([A-Z][a-z]?(,[A-Z][a-z]?)*)?$")] = ""
    """With all of these elements: Ti,O."""
    only: bool = False
    """And no others."""
    check: CheckName | None = None
    """Those that a check finds."""
    group: Annotated[str, Field(max_length=500)] | None = None
    """Of this kind."""
    mode: Annotated[str, Field(max_length=500)] | None = None
    """Of this calc mode."""
    column: Column | None = None
    """With a number between two bounds: this number..."""
    low: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """...from here..."""
    high: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """...to here."""


class HistogramOf(Selection):
    """A histogram of the structures that are meant."""

    of: Column
    """Of this number."""
    bins: int = Field(default=50, ge=2, le=500)
    """So many bins."""


class PointsOf(Selection):
    """Points of the structures that are meant."""

    x: Column
    """First number."""
    y: Column
    """Second number."""
    most: int = Field(default=3000, ge=1, le=20_000)
    """So many points at most."""


class TableOf(Selection):
    """A page of a table of the structures that are meant."""

    sort: Column | None = None
    """By this number; default: as they lie."""
    down: bool = False
    """The largest first."""
    page: int = Field(default=1, ge=1, le=10_000_000)
    """Which page."""
    size: int = Field(default=20, ge=1, le=500)
    """Structures on a page."""


class NewFromSelection(Selection):
    """A data set of the structures that are meant, for training on them."""

    name: Name
    """Its name."""


class Parts(Settings):
    """How a version is divided into data sets for training, validation and test."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Of this version; default the newest one."""
    by: Literal["frames", "groups", "stratified"] = "frames"
    """At random; whole kinds of structures; every kind in the same proportion. Copies always stay together."""
    valid: float = Field(default=0.1, ge=0, lt=1)
    """Fraction for validation."""
    test: float = Field(default=0.1, ge=0, lt=1)
    """Fraction for the test."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Of the order."""


class Spread(Result):
    """How a number is spread."""

    least: float | None
    """The smallest."""
    middle: float | None
    """Half of all are smaller."""
    largest: float | None
    """The largest."""


class Difference(Result):
    """What differs between two versions."""

    same: int
    """Structures of the first that are in the second, with the same labels."""
    relabelled: int
    """Those that are there with other labels."""
    removed: int
    """Structures of the first that are not in the second."""
    added: int
    """Structures of the second that are not in the first."""
    removed_frames: list[int]
    """Some of those: numbers in the first."""
    added_frames: list[int]
    """Some of those: numbers in the second."""
    relabelled_frames: list[int]
    """Some of those: numbers in the second."""
    columns: dict[str, list[Spread]]
    """Number -> how it is spread in the first and in the second."""


class Listing(Result):
    """Structures one after another, as a table."""

    frames: list[int]
    """Which."""
    formulas: list[str]
    """Of each."""
    groups: list[str]
    """Kind of each; "": it has none."""
    modes: list[str]
    """Calc mode of each; "": it has none."""
    columns: dict[str, list[float | None]]
    """Numbers of each."""
    selected: int
    """Structures that fit the filter."""
