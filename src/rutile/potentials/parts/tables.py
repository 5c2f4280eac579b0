"""Tables of symmetry functions as data files: TOML (ours) and the `symfunction_short` lines of n2p2.

A TOML table is a header and blocks; a block is the product of its parameter lists, looped in `order`
(outermost first), so that the rows come out numbered as in the publication:

    name = "my table"
    centers = ["O", "Ti"]             # every centre gets all blocks, unless a block names its own
    [[blocks]]
    kind = "G2"
    cutoff = 6.5
    neighbors = [["O"], ["Ti"]]
    etas = [0.003214, 0.035711]       # 4 functions: (eta 1, O), (eta 1, Ti), (eta 2, O), (eta 2, Ti)
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from rutile.core.elements import number, symbol
from rutile.core.errors import FileError, RutileError, SettingsError
from rutile.core.settings import Settings
from rutile.core.units import LENGTH_UNITS
from rutile.potentials.parts.symmetry import CutoffName, Kind, SymmetryFunction, SymmetryTable

Loop = Literal["shifts", "lambdas", "zetas", "etas", "neighbors"]
LOOPS: tuple[Loop, ...] = ("shifts", "lambdas", "zetas", "etas", "neighbors")


def _known(name: str) -> str:
    try:
        number(name)
    except RutileError as error:
        raise ValueError(str(error)) from None
    return name


Element = Annotated[str, AfterValidator(_known)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class TableBlock(Settings):
    """Functions of one kind: the product of the lists."""

    kind: Kind
    """G2 (radial), G4 (angular with r_jk) or G5 (angular without r_jk)."""
    cutoff: Positive
    """Cutoff r_c in the table's length unit."""
    neighbors: tuple[tuple[Element, ...], ...] = Field(min_length=1)
    """Neighbour elements: [["O"], ["Ti"]] for G2, unordered pairs [["O", "Ti"]] for G4 and G5."""
    etas: tuple[NotNegative, ...] = Field(min_length=1)
    """Widths eta in 1 / (length unit)^2."""
    shifts: tuple[NotNegative, ...] = Field(default=(0.0,), min_length=1)
    """Shifts r_s in the table's length unit."""
    lambdas: tuple[Literal[-1, 1], ...] = ()
    """Signs lambda of G4 and G5."""
    zetas: tuple[Annotated[float, Field(ge=1)], ...] = ()
    """Angular exponents zeta of G4 and G5; below 1 forces would be infinite at 180 degrees."""
    centers: tuple[Element, ...] | None = None
    """Centre elements that have these functions (default: all of the table)."""
    order: tuple[Loop, ...] = LOOPS
    """The loops from the outermost to the innermost."""

    @model_validator(mode="after")
    def _consistent(self) -> TableBlock:
        width = 1 if self.kind == "G2" else 2
        for group in self.neighbors:
            if len(group) != width:
                raise ValueError(f"{self.kind} needs {width} neighbour element(s) in each group, not {list(group)}")
        if self.kind == "G2" and (self.lambdas or self.zetas):
            raise ValueError("G2 has no lambdas and no zetas")
        if self.kind != "G2" and not (self.lambdas and self.zetas):
            raise ValueError(f"{self.kind} needs lambdas and zetas")
        if sorted(self.order) != sorted(LOOPS):
            raise ValueError(f"order must name each of {', '.join(LOOPS)} once, not {list(self.order)}")
        return self


class TableSettings(Settings):
    """A whole table of symmetry functions: what a TOML table file holds, and what a saved model keeps."""

    name: str
    """For people."""
    source: str = ""
    """Where the numbers come from."""
    centers: tuple[Element, ...] = Field(min_length=1)
    """Centre elements."""
    length_unit: Literal["Angstrom", "Bohr"] = "Angstrom"
    """Unit of cutoffs and shifts; etas are in its inverse square."""
    cutoff_function: CutoffName = "cosine"
    """Cutoff function of all functions."""
    blocks: tuple[TableBlock, ...] = Field(min_length=1)
    """Groups of functions, in the order of the columns of the descriptor."""

    @model_validator(mode="after")
    def _centers_known(self) -> TableSettings:
        for n, block in enumerate(self.blocks):
            unknown = set(block.centers or ()) - set(self.centers)
            if unknown:
                raise ValueError(f"block {n}: centers {sorted(unknown)} are not among the table's {list(self.centers)}")
        return self


def expand(settings: TableSettings) -> SymmetryTable:
    """The explicit rows of a table, in Angstrom."""
    functions: dict[int, list[SymmetryFunction]] = {number(c): [] for c in settings.centers}
    for block in settings.blocks:
        rows = _rows(block, LENGTH_UNITS[settings.length_unit])
        for center in block.centers or settings.centers:
            functions[number(center)] += rows
    return SymmetryTable(settings.name, {z: tuple(f) for z, f in functions.items()}, settings.cutoff_function)


def _rows(block: TableBlock, unit: float) -> list[SymmetryFunction]:
    lists: dict[str, tuple[Any, ...]] = {
        "shifts": block.shifts, "lambdas": block.lambdas or (0,), "zetas": block.zetas or (0.0,),
        "etas": block.etas, "neighbors": block.neighbors,
    }  # fmt: skip
    rows = []
    for values in itertools.product(*(lists[name] for name in block.order)):
        p = dict(zip(block.order, values, strict=True))
        pair = tuple(sorted(number(name) for name in p["neighbors"]))
        eta, shift, cutoff = p["etas"] / unit**2, p["shifts"] * unit, block.cutoff * unit
        rows.append(SymmetryFunction(block.kind, pair, eta, shift, cutoff, float(p["lambdas"]), float(p["zetas"])))
    return rows


def compact(table: SymmetryTable, source: str = "") -> TableSettings:
    """Settings that expand to this table, one block for each row (used for tables that came as rows)."""
    blocks = [
        TableBlock(
            kind=f.kind, cutoff=f.r_c, neighbors=(tuple(symbol(z) for z in f.neighbors),), etas=(f.eta,),
            shifts=(f.r_s,), centers=(symbol(center),),
            lambdas=() if f.kind == "G2" else (1 if f.lambda_ > 0 else -1,), zetas=() if f.kind == "G2" else (f.zeta,),
        )
        for center, group in table.functions.items() for f in group
    ]  # fmt: skip
    centers = tuple(symbol(z) for z in table.functions)
    return TableSettings(
        name=table.name, source=source, centers=centers, cutoff_function=table.cutoff_function, blocks=tuple(blocks)
    )


def table_key(table: SymmetryTable) -> str:
    """SHA-256 of all rows and the cutoff function: the same key, the same descriptors."""
    rows = [
        [z, [(f.kind, f.neighbors, f.eta, f.r_s, f.r_c, f.lambda_, f.zeta) for f in table.functions[z]]]
        for z in table.elements
    ]
    return hashlib.sha256(json.dumps([table.cutoff_function, rows]).encode()).hexdigest()


def shipped_tables() -> tuple[str, ...]:
    """Names of the tables that come with rutile."""
    folder = resources.files("rutile.potentials") / "tables"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def read_table(name_or_path: str) -> TableSettings:
    """A shipped table by name, a TOML table by path, or an n2p2 input by a path that ends in ".nn".

    Raises:
        SettingsError: no such table, or its content is wrong; says where.
        FileError: the file cannot be read.
    """
    if name_or_path in shipped_tables():
        text = (resources.files("rutile.potentials") / "tables" / f"{name_or_path}.toml").read_text(encoding="utf-8")
        return parse_table(text, name_or_path)
    path = Path(name_or_path)
    if not path.is_file():
        raise SettingsError(
            f"symmetry-function table {name_or_path!r}: no such file and no shipped table of that name "
            f"(shipped: {', '.join(shipped_tables())}; or 'auto')"
        )
    if path.suffix == ".nn":
        return compact(read_n2p2(path), source=f"n2p2 input {path.name}")
    return parse_table(_text(path), str(path))


def parse_table(text: str, place: str) -> TableSettings:
    """A table from TOML text; `place` names it in errors.

    Raises:
        SettingsError: not TOML, or a value is wrong.
    """
    try:
        return TableSettings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{place}: not a TOML file: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        value = "" if first["type"] == "missing" or isinstance(first["input"], dict) else f" (got {first['input']!r})"
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{place}: {where + ': ' if where else ''}{message}{value}") from None


N2P2_KINDS: dict[str, Kind] = {"2": "G2", "3": "G4", "9": "G5"}
N2P2_CUTOFFS: dict[str, CutoffName] = {
    "1": "cosine", "2": "tanh3_unit", "3": "tanh3", "4": "exp", "5": "poly1", "6": "poly2", "7": "poly3", "8": "poly4",
}  # fmt: skip


def read_n2p2(path: Path, length_unit: Literal["Angstrom", "Bohr"] = "Bohr") -> SymmetryTable:
    """The symmetry functions of an n2p2 `input.nn` (types 2, 3 and 9), columns in the order of the file.

    n2p2 itself has no units; its examples are in Bohr. Note that n2p2 sorts the functions before use.

    Raises:
        FileError: the file cannot be read.
        SettingsError: a line is malformed, or asks for something that rutile does not have; says which line.
    """
    unit = LENGTH_UNITS[length_unit]
    functions: dict[int, list[SymmetryFunction]] = {}
    cutoff_function: CutoffName = "cosine"
    for n, line in enumerate(_text(path).splitlines(), 1):
        words = line.split("#")[0].split()
        if not words or words[0] not in ("cutoff_type", "symfunction_short"):
            continue
        try:
            if words[0] == "cutoff_type":
                if len(words) > 2 and float(words[2]) != 0.0:
                    raise ValueError("an inner cutoff is not supported")
                cutoff_function = N2P2_CUTOFFS[words[1]]
            else:
                functions.setdefault(number(words[1]), []).append(_n2p2_function(words, unit))
        except (KeyError, ValueError, IndexError, RutileError) as error:
            raise SettingsError(f"{path}, line {n}: cannot use {line.strip()!r}: {error}") from None
    if not functions:
        raise SettingsError(f"{path}: no 'symfunction_short' lines")
    return SymmetryTable(path.name, {z: tuple(f) for z, f in functions.items()}, cutoff_function)


def _n2p2_function(words: list[str], unit: float) -> SymmetryFunction:
    if words[2] not in N2P2_KINDS:
        raise ValueError(f"type {words[2]} is not supported (supported: 2, 3, 9)")
    kind = N2P2_KINDS[words[2]]
    lambda_, zeta = 0.0, 0.0
    if kind == "G2":
        eta, r_s, r_c = (float(w) for w in words[4:7])
        neighbors: tuple[int, ...] = (number(words[3]),)
    else:
        eta, lambda_, zeta, r_c = (float(w) for w in words[5:9])
        r_s = float(words[9]) if len(words) > 9 else 0.0
        neighbors = tuple(sorted((number(words[3]), number(words[4]))))
        if abs(lambda_) != 1.0 or not zeta >= 1.0:
            raise ValueError(f"needs lambda = -1 or 1 and zeta >= 1, not {lambda_:g} and {zeta:g}")
    if not (0.0 < r_c < math.inf and 0.0 <= eta < math.inf and 0.0 <= r_s < math.inf):
        raise ValueError(f"needs a positive cutoff and eta, r_s >= 0, not {r_c:g}, {eta:g} and {r_s:g}")
    return SymmetryFunction(kind, neighbors, eta / unit**2, r_s * unit, r_c * unit, lambda_, zeta)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read as text: {error}") from None
