"""Chains of images: differences, tangents and forces of nudged elastic bands.

    F_i = f - (f.t) t + k (|R_{i+1} - R_i| - |R_i - R_{i-1}|) t,   climbing image: f - 2 (f.t) t

with the forces f of the potential and the improved tangent t (Henkelman and Jonsson 2000, doi:10.1063/1.1323224;
climbing: Henkelman, Uberuaga and Jonsson 2000, doi:10.1063/1.1329672). Rows of three coordinates are the atoms of all
images, then three for the strain of each cell times s = sqrt(N) (V/N)^(1/3). Where cells move, differences of atoms are
taken after the deformation from one cell to the next (generalised solid-state band, Sheppard et al. 2012,
doi:10.1063/1.3684549). Letters of shapes: B bands, S images of all bands, N atoms of all images, R = N + 3 S rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rutile.structures.structures import Structures


@dataclass(frozen=True)
class Chain:
    """Images of several bands, band after band, and how far each is from the next."""

    band: Tensor
    """Band of each image, [S]."""
    image: Tensor
    """Image of each row, [R]."""
    inner: Tensor
    """Images that are not ends, [S] bool."""
    scale: Tensor
    """s of each image (Angstrom), [S]."""
    ahead: Tensor
    """To the next image (Angstrom), [R, 3]; 0 for the last."""
    behind: Tensor
    """From the image before (Angstrom), [R, 3]; 0 for the first."""

    @staticmethod
    def of(images: Structures, sizes: Tensor, moving_cell: bool) -> Chain:
        """Differences within each band.

        Args:
            images: all images; those of a band hold the same atoms, without jumps across periodic boundaries.
            sizes: images of each band, [B].
            moving_cell: whether cells differ.
        """
        n_images, counts = images.n_systems, images.counts
        last = sizes.cumsum(0) - 1
        inner = torch.ones(n_images, dtype=torch.bool)
        inner[last] = False
        inner[last - sizes + 1] = False
        has_next = torch.ones(n_images, dtype=torch.bool)
        has_next[last] = False
        following = torch.arange(n_images) + has_next
        atom = torch.arange(images.n_atoms)
        next_atom = atom + (counts * has_next)[images.system]
        n = counts.double().clamp(min=1.0)
        scale = (n.sqrt() * (images.volume / n) ** (1 / 3)).clamp(min=1e-12)
        deform = torch.eye(3, dtype=torch.float64).expand(n_images, 3, 3)
        if moving_cell:
            deform = torch.linalg.solve(images.cell, images.cell[following])
        strain = 0.5 * (deform + deform.mT) - torch.eye(3, dtype=torch.float64)
        moved = torch.einsum("na,nab->nb", images.positions, deform[images.system])
        ahead = torch.cat([images.positions[next_atom] - moved, (strain * scale[:, None, None]).reshape(-1, 3)])
        rows = torch.cat(
            [next_atom, images.n_atoms + 3 * following.repeat_interleave(3) + torch.arange(3).repeat(n_images)]
        )
        image = torch.cat([images.system, torch.arange(n_images).repeat_interleave(3)])
        goes_on = has_next[image]
        behind = torch.zeros_like(ahead).index_copy(0, rows[goes_on], ahead[goes_on])
        band = torch.arange(len(sizes)).repeat_interleave(sizes)
        return Chain(band, image, inner, scale, ahead, behind)

    @property
    def lengths(self) -> Tensor:
        """Distance of each image from the next (Angstrom), [S]; 0 for the last of a band."""
        return self.dot(self.ahead, self.ahead).sqrt()

    @property
    def coordinate(self) -> Tensor:
        """Length of the path up to each image (Angstrom), [S]."""
        so_far = self.lengths.cumsum(0) - self.lengths
        first = torch.searchsorted(self.band, self.band)
        return so_far - so_far[first]

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Scalar products of rows [R, 3], for each image, [S]."""
        return torch.zeros_like(self.scale).index_add(0, self.image, (a * b).sum(1))

    def largest(self, rows: Tensor) -> Tensor:
        """Length of the longest row [R, 3] of each band, [B]."""
        out = rows.new_zeros(int(self.band[-1]) + 1)
        return out.scatter_reduce(0, self.band[self.image], rows.norm(dim=1), "amax")

    def tangent(self, energy: Tensor) -> Tensor:
        """Improved tangent, of length 1 on each inner image and 0 on the ends, [R, 3].

        Args:
            energy: of the images (eV), [S].
        """
        up = torch.where(self.inner, energy.roll(-1) - energy, 0.0)
        down = torch.where(self.inner, energy - energy.roll(1), 0.0)
        high, low = torch.maximum(up.abs(), down.abs()), torch.minimum(up.abs(), down.abs())
        rising = energy.roll(-1) > energy.roll(1)
        ahead = torch.where(up * down > 0, (up > 0).double(), torch.where(rising, high, low))
        behind = torch.where(up * down > 0, (up < 0).double(), torch.where(rising, low, high))
        flat = high == 0
        ahead, behind = (torch.where(flat, 1.0, x) * self.inner for x in (ahead, behind))
        t = ahead[self.image, None] * self.ahead + behind[self.image, None] * self.behind
        return t / self.dot(t, t).sqrt().clamp(min=1e-12)[self.image, None]

    def highest(self, energy: Tensor) -> Tensor:
        """The inner image of the highest energy of each band, [S] bool; the first of them if there are several."""
        inside = torch.where(self.inner, energy, -torch.inf)
        top = inside.new_full((int(self.band[-1]) + 1,), -torch.inf).scatter_reduce(0, self.band, inside, "amax")
        where = (inside == top[self.band]) & self.inner
        before = where.cumsum(0) - where.long()
        first = torch.searchsorted(self.band, self.band)
        return where & (before == before[first])

    def nudged(self, force: Tensor, tangent: Tensor, spring: float, climber: Tensor) -> Tensor:
        """Forces on the images of the bands (eV/Angstrom), [R, 3]; 0 on the ends.

        Args:
            force: of the potential (eV/Angstrom), [R, 3].
            tangent: of `tangent`, [R, 3].
            spring: k (eV/Angstrom^2).
            climber: the images that climb, [S] bool.
        """
        along = self.dot(force, tangent)
        lengths = self.lengths
        pull = spring * (lengths - lengths.roll(1))
        push = torch.where(climber, -2.0 * along, pull - along) * self.inner
        return force * self.inner[self.image, None] + push[self.image, None] * tangent
