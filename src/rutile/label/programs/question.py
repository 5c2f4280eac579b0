"""What is asked of a program, and how it says that there is no answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from pydantic import JsonValue

from rutile.label.labeler import Failure, Kind, Label
from rutile.label.run import Ended
from rutile.label.settings import ProgramSettings


class NoAnswer(Exception):
    """A program cannot be asked, or has no answer."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.failure = Failure(kind, reason)


@dataclass(frozen=True)
class Question:
    """One calculation."""

    atoms: Atoms
    """For engines of crystals in a cell, periodic in all directions."""
    settings: ProgramSettings
    """As given."""
    complete: Mapping[str, JsonValue]
    """As given, with the values of the protocol."""
    kpoints: tuple[int, int, int]
    """Numbers of k-points along the cell vectors, Gamma-centred."""
    crystal: bool
    """Whether the structure is periodic in all directions by itself."""
    molecule: bool
    """Whether it is periodic in none."""
    charge: int
    """Total charge (e)."""
    multiplicity: int
    """2S + 1."""
    safer: bool
    """Whether to converge slowly and surely."""

    def number(self, name: str) -> float:
        """A setting that is a number."""
        return float(str(self.complete[name]))

    def text(self, name: str) -> str:
        """A setting that is text."""
        return str(self.complete[name])

    @property
    def symbols(self) -> list[str]:
        """Elements that occur, by the alphabet."""
        return sorted(set(self.atoms.get_chemical_symbols()))


class Program(Protocol):
    """How a program is asked."""

    title: str
    """Its name."""
    command: str
    """How it is started, with its input file."""
    version_words: tuple[str, ...]
    """Arguments with which it prints its version and ends; empty: it prints it when started without input."""
    asks_version: bool
    """Whether its version can be asked for."""
    install: str
    """How to get it."""
    by_mpirun: bool
    """Whether several processes are started by mpirun; else it starts them itself, as its input says."""

    def version(self, text: str) -> str:
        """Version that an output of it names; "" where it names none."""
        ...

    def pseudopotentials(self, settings: ProgramSettings, symbols: list[str]) -> dict[str, Path]:
        """Files that belong to the identity of labels, by element; none where a program brings its own or needs none.

        Raises:
            NoAnswer: one is missing.
        """
        del settings, symbols
        return {}

    def inputs(self, question: Question) -> dict[str, str | bytes]:
        """Content of each input file.

        Raises:
            NoAnswer: something is missing.
        """
        ...

    def read(self, question: Question, folder: Path, ended: Ended) -> Label:
        """What the output says.

        Raises:
            NoAnswer: not converged, or incomplete.
        """
        ...


def hash_files(files: Mapping[str, Path]) -> str:
    """Content of pseudopotentials."""
    parts = [f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for name, path in sorted(files.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def chosen(
    folder: Path, given: Mapping[str, str], symbols: list[str], find: Callable[[str], Iterable[Path]], where: str
) -> dict[str, Path]:
    """The file of each element: the one that is named, else the first that `find` (symbol -> files) knows.

    Raises:
        NoAnswer: a file is missing.
    """
    out = {}
    for symbol in symbols:
        if symbol in given:
            path = folder / given[symbol]
            if not path.is_file():
                raise NoAnswer("missing pseudopotential", f"{path} is not there; see engine.pseudopotentials")
        else:
            first = next(iter(find(symbol)), None)
            if first is None:
                raise NoAnswer(
                    "missing pseudopotential",
                    f"no pseudopotential of {symbol} for {where} in {folder}: put one there, choose another "
                    "engine.pseudo_dir, or name the file in engine.pseudopotentials",
                )
            path = first
        out[symbol] = path
    return out


def full_stress(voigt: Any) -> np.ndarray:
    """3x3 of xx yy zz yz xz xy."""
    xx, yy, zz, yz, xz, xy = (float(x) for x in voigt)
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
