"""Energies of isolated atoms, by element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from rutile.core.elements import MAX_Z, symbol
from rutile.core.errors import ElementError


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
    """E0 of each element (eV); 0 until set.

    Stays float64 when the potential goes to float32: 1e-7 of a total energy of -50 000 eV would be 5 meV.
    """

    energy: Tensor

    def __init__(self, elements: tuple[int, ...]) -> None:
        super().__init__()
        self.elements = elements
        self.register_buffer("energy", torch.zeros(len(elements), dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact = self.energy
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.energy = exact.to(self.energy.device)
        return self

    def forward(self, position: Tensor) -> Tensor:
        """E0 (eV) of atoms given by the positions of their elements, [N] float64."""
        return self.energy[position]

    def set(self, energies: Mapping[int, float]) -> None:
        """Set E0 from atomic number -> energy (eV); every element must be there, others are ignored.

        Raises:
            ElementError: the energy of an element is missing.
        """
        missing = [symbol(z) for z in self.elements if z not in energies]
        if missing:
            raise ElementError(f"no reference energy for {', '.join(missing)}")
        self.energy.copy_(torch.tensor([energies[z] for z in self.elements], dtype=torch.float64))
