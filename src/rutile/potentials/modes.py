"""Calc modes: which reference methods a potential knows, a potential in one of them, and energies that know theirs.

A potential trained on several reference methods at once (PBE, RPBE, wB97X...) is asked in one mode at a time. Total
energies of different methods have different zeros, so nothing may be concluded from their difference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from rutile.core.errors import ModeError
from rutile.graph.graph import Graph
from rutile.potentials.potential import Potential


def modes_of(potential: Potential) -> tuple[str, ...]:
    """Names of the calc modes of a potential, in the order of `graph.mode`; one without a name: ("",)."""
    return tuple(getattr(potential, "modes", ("",)))


def listed(modes: Sequence[str]) -> str:
    """Names of modes for people."""
    return ", ".join(mode or "(no name)" for mode in modes)


def mode_number(modes: Sequence[str], mode: str | None) -> int:
    """Place of a mode among those of a model; the only one if none is named.

    Raises:
        ModeError: there are several and none is named, or there is none of that name.
    """
    if mode is None and len(modes) == 1:
        return 0
    if mode is None:
        raise ModeError(f"the model knows {len(modes)} calc modes: say mode=NAME, one of {listed(modes)}")
    if mode not in modes:
        raise ModeError(f"the model does not know the calc mode {mode!r}; it knows {listed(modes)}")
    return list(modes).index(mode)


def frame_mode(modes: Sequence[str], frame: str, source: str, mode: str | None = None) -> int:
    """In which of a model's modes a labelled frame is to be compared.

    Args:
        modes: of the model.
        frame: calc mode of the frame; "" where it names none.
        source: of the frame, for the message.
        mode: what the user asked for, whatever the frame says.

    Raises:
        ModeError: the labels are of a method that the model does not know, or of an unknown one while the model knows
            several.
    """
    if mode is not None or not frame or (len(modes) == 1 and not modes[0]):
        return mode_number(modes, mode)
    if frame not in modes:
        raise ModeError(
            f"{source or 'a frame'}: its labels are of calc mode {frame!r} and the model knows {listed(modes)}: their "
            "difference is that of two methods, not an error of the model; give mode=NAME to compare nevertheless"
        )
    return list(modes).index(frame)


def in_mode(potential: Potential, mode: str | None = None) -> Potential:
    """The potential as one of a single mode, for whom `graph.mode` means nothing; itself if it has only one.

    Args:
        potential: any.
        mode: name of the mode (default: the only one).

    Raises:
        ModeError: several modes and none is named, or none of that name.
    """
    number = mode_number(modes_of(potential), mode)
    return potential if len(modes_of(potential)) == 1 else InMode(potential, number)


class InMode(torch.nn.Module):
    """A potential with its calc mode fixed, so that relaxations and the like need not know about modes."""

    def __init__(self, potential: Potential, number: int) -> None:
        """Fix the mode.

        Args:
            potential: a module that knows several modes.
            number: which of them.
        """
        super().__init__()
        self.potential: Any = potential
        self.number = number
        self.modes = (modes_of(potential)[number],)
        self.cutoff = potential.cutoff
        self.elements = potential.elements
        self.n_heads: int = getattr(potential, "n_heads", 1)

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV), [N]."""
        energy: Tensor = self.potential(self._asked(graph))
        return energy

    def head_energies(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV) as each head says it, [H, N]."""
        energies: Tensor = self.potential.head_energies(self._asked(graph))
        return energies

    def features(self, graph: Graph) -> Tensor:
        """How it sees the surroundings of each atom, [N, F]."""
        features: Tensor = self.potential.features(self._asked(graph))
        return features

    def _asked(self, graph: Graph) -> Graph:
        return dataclasses.replace(graph, mode=torch.full_like(graph.mode, self.number))


class ModeEnergy(float):
    """An energy (eV) that knows its calc mode; a float in every other respect.

    Sums and differences with an energy of another mode are refused. What is still an energy of the mode (its sum with
    another one or with a plain number, a multiple, a part) keeps the mode; a difference of two energies of one mode is
    a plain float, which may be compared between methods.
    """

    calc_mode: str

    def __new__(cls, energy: float, calc_mode: str) -> Self:
        """An energy (eV) of a mode."""
        self = super().__new__(cls, energy)
        self.calc_mode = calc_mode
        return self

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override]
        """For copies."""
        return float(self), self.calc_mode

    def _same(self, other: float) -> bool:
        """Whether the other one is an energy of this mode; refuses one of another mode."""
        if not isinstance(other, ModeEnergy):
            return False
        if other.calc_mode != self.calc_mode:
            raise ModeError(
                f"an energy of calc mode {self.calc_mode!r} and one of {other.calc_mode!r} have different zeros: "
                "compute both in one mode, or compare differences within each mode; float(energy) gives a plain number"
            )
        return True

    def _kept(self, value: Any) -> Any:
        return ModeEnergy(value, self.calc_mode) if type(value) is float else value

    def __add__(self, other: float) -> Any:
        """Refuses an energy of another mode."""
        self._same(other)
        return self._kept(float.__add__(self, other))

    def __radd__(self, other: float) -> Any:
        """As `__add__`."""
        self._same(other)
        return self._kept(float.__radd__(self, other))

    def __sub__(self, other: float) -> Any:
        """A plain float for two energies of one mode; refuses an energy of another mode."""
        value = float.__sub__(self, other)
        return value if self._same(other) else self._kept(value)

    def __rsub__(self, other: float) -> Any:
        """As `__sub__`."""
        value = float.__rsub__(self, other)
        return value if self._same(other) else self._kept(value)

    def __mul__(self, other: float) -> Any:
        """A multiple keeps the mode."""
        return self._kept(float.__mul__(self, other))

    def __rmul__(self, other: float) -> Any:
        """A multiple keeps the mode."""
        return self._kept(float.__rmul__(self, other))

    def __truediv__(self, other: float) -> Any:
        """A part, such as the energy of one atom, keeps the mode."""
        value = float.__truediv__(self, other)
        return value if isinstance(other, ModeEnergy) else self._kept(value)

    def __neg__(self) -> Any:
        """Keeps the mode."""
        return self._kept(float.__neg__(self))


def energy_of(value: float, mode: str) -> float:
    """An energy (eV) that knows its mode; a plain float where the mode has no name."""
    return ModeEnergy(value, mode) if mode else float(value)
