"""Energies of isolated atoms, by calc mode and element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from rutile.core.elements import MAX_Z, symbol
from rutile.core.errors import ElementError, SettingsError


def one_mode(name: str, modes: tuple[str, ...]) -> tuple[str, ...]:
    """The modes, for a potential that can only have one.

    Raises:
        SettingsError: there are several.
    """
    if len(modes) > 1:
        raise SettingsError(
            f"the potential {name!r} cannot tell calc modes apart, and there are {len(modes)} ({', '.join(modes)}): "
            "train on data of one mode, or say read.mode_key=none if they are the same method"
        )
    return modes


class ElementIndex(nn.Module):
    """Atomic numbers -> positions in the ascending list of a potential's elements."""

    index: Tensor

    def __init__(self, elements: tuple[int, ...]) -> None:
        super().__init__()
        self.elements = elements
        index = torch.full((MAX_Z + 1,), -1, dtype=torch.long)
        index[list(elements)] = torch.arange(len(elements))
        self.register_buffer("index", index, persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """[N] int64 atomic numbers -> [N] int64 positions.

        Raises:
            ElementError: an element that the potential does not know.
        """
        position = self.index[numbers]
        if bool((position < 0).any()):
            unknown = sorted({symbol(int(z)) for z in numbers[position < 0]})
            known = ", ".join(symbol(z) for z in self.elements)
            raise ElementError(f"this potential does not know {', '.join(unknown)}; it was made for {known}")
        return position


class ReferenceEnergies(nn.Module):
    """E0 of each element in each calc mode (eV), [M, number of elements]; 0 until set.

    Stays float64 when the potential goes to float32: 1e-7 of a total energy of -50 000 eV would be 5 meV.
    """

    energy: Tensor

    def __init__(self, elements: tuple[int, ...], n_modes: int = 1) -> None:
        super().__init__()
        self.elements = elements
        self.register_buffer("energy", torch.zeros(n_modes, len(elements), dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact = self.energy
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.energy = exact.to(self.energy.device)
        return self

    def forward(self, position: Tensor, mode: Tensor | None = None) -> Tensor:
        """E0 (eV) of atoms by the positions of their elements and their modes (default: the first), [N] float64."""
        return self.energy[0, position] if mode is None else self.energy[mode, position]

    def by_element(self, mode: int = 0) -> dict[int, float]:
        """Atomic number -> E0 (eV) in a mode."""
        return dict(zip(self.elements, self.energy[mode].tolist(), strict=True))

    def set(self, energies: Mapping[int, float], mode: int | None = None) -> None:
        """Set E0 from atomic number -> energy (eV), in one mode or all; every element must be there.

        Raises:
            ElementError: the energy of an element is missing.
        """
        missing = [symbol(z) for z in self.elements if z not in energies]
        if missing:
            raise ElementError(f"no reference energy for {', '.join(missing)}")
        values = torch.tensor([energies[z] for z in self.elements], dtype=torch.float64)
        self.energy[slice(None) if mode is None else mode] = values.to(self.energy.device)
