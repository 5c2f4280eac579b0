"""Work of an adaptive search, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ase import Atoms

from rutile.search.individual import Candidate, Relaxed

Kind = Literal["label", "train", "search"]
KINDS: tuple[Kind, ...] = ("label", "train", "search")
"""In the order in which workers are given work: labels and versions are what others wait for."""
Why = Literal["first", "best", "disputed", "final"]
"""Why a structure is labelled: to begin with; it is low; the committee disagrees; to be relaxed by the labeler."""


@dataclass(frozen=True)
class Group:
    """Structures to be relaxed on one version."""

    version: int
    model: str
    """What the training said where the version is."""
    candidates: tuple[Candidate, ...]
    """New ones, and those that older versions relaxed."""


@dataclass(frozen=True)
class Scored:
    """What became of one of a group."""

    relaxed: Relaxed
    spread: float
    """Standard deviation of the energy over the committee (eV/atom); 0: one potential."""


@dataclass(frozen=True)
class Question:
    """A structure to be labelled; a final one is relaxed with the labeler."""

    label: int
    """Number of the label; of a final one, of the label that it was chosen for."""
    structure: int
    """Number of the structure."""
    atoms: Atoms
    why: Why
    version: int | None
    """That relaxed it."""
    energy: float
    """By that version (eV/atom); NaN: none."""
    spread: float = 0.0
    """Of that version (eV/atom)."""


@dataclass(frozen=True)
class Answer:
    """A label, or why there is none."""

    frame: Atoms | None
    """The structure with REF_energy, REF_forces and REF_stress; of a final one as the labeler relaxed it."""
    energy: float
    """Energy, or enthalpy under pressure (eV/atom); NaN: failed."""
    force: float
    """Largest force (eV/Angstrom)."""
    failure: str
    """Why it cannot be used, or ""."""
    cost: int = 1
    """Calculations of the labeler; 0: the label was known."""


@dataclass(frozen=True)
class Lesson:
    """A version to be trained."""

    version: int
    start: int | None
    """Version that it goes on from; None: from new weights."""
    model: str
    """Of that version, or ""."""
    new: tuple[int, ...]
    """Labels (by number) that no accepted version has learned."""
    old: tuple[int, ...]
    """Labels that were learned before."""
    frames: tuple[Atoms, ...] = field(default=(), repr=False, compare=False)
    """Of the new ones, then of the old ones."""
    all: tuple[tuple[int, Atoms], ...] = field(default=(), repr=False, compare=False)
    """All labels and their structures, whose energies the version is asked for."""


@dataclass(frozen=True)
class Errors:
    """Of a potential, as root mean squares; NaN: not measured."""

    energy: float = float("nan")
    """eV/atom."""
    force: float = float("nan")
    """Of components (eV/Angstrom)."""


@dataclass(frozen=True)
class Trained:
    """A version as its training left it."""

    model: str
    """Where it is."""
    frames: int
    """Structures it learned, those given at the beginning with them."""
    old_before: Errors = Errors()
    """On structures learned before, by the version before."""
    old_after: Errors = Errors()
    """The same by this one."""
    new_before: Errors = Errors()
    """On new structures, by the version before: it had not seen them."""
    new_after: Errors = Errors()
    """The same by this one."""
    failure: str = ""
    """Why there is none."""
    energies: tuple[tuple[int, float], ...] = ()
    """Of all labelled structures: number of the label, energy by this version (eV/atom)."""


Item: TypeAlias = Group | Question | Lesson
Outcome: TypeAlias = "list[tuple[int, Scored]] | Answer | Trained"


def without(item: Item, reason: str) -> Outcome:
    """What comes of work over which workers were lost again and again."""
    if isinstance(item, Group):
        return [(c.number, Scored(Relaxed(c.atoms, float("nan"), reason, 0), 0.0)) for c in item.candidates]
    if isinstance(item, Question):
        return Answer(None, float("nan"), float("nan"), reason)
    return Trained("", 0, failure=reason)


@dataclass
class Asked:
    """A label and its structure."""

    question: Question
    answer: Answer | None = None
    """None: not done yet."""

    @property
    def number(self) -> int:
        """Of the label."""
        return self.question.label

    @property
    def energy(self) -> float:
        """Of the label (eV/atom); NaN: there is none."""
        return float("nan") if self.answer is None or self.answer.failure else self.answer.energy


@dataclass
class Version:
    """A version of the potential, and what was done with it."""

    number: int
    start: int | None
    """Version that it went on from."""
    new: tuple[int, ...]
    """Labels that it was the first to learn."""
    trained: Trained
    rejected: str = ""
    """Why it is kept out, or ""."""
    relaxed: int = 0
    """Relaxations with it."""
    asked: int = 0
    """Labels of structures that it found, without those that cannot be learned."""
    refused: int = 0
    """Those that cannot be learned: they failed, or their forces are too large."""
    last_asked: int = 0
    """Of its relaxations, those that were done when the last of them was chosen."""
    lowest: float = float("inf")
    """Lowest label when it came (eV/atom)."""
    correlation: float = float("nan")
    """Spearman's rank correlation of its energies and the labels of low structures."""

    def asked_enough(self, most: int) -> bool:
        """Whether it has had `most` labels of structures that it found, or paid for as many that cannot be learned."""
        return self.asked >= most or self.refused >= most
