"""Nudged elastic bands with a climbing image: many reaction paths at once, all their images in one batch.

`chain` has the formulas. Each band has its own FIRE, so that it moves the same alone and in company; those that are
done leave the batch. Letters of shapes: B bands, S images of all bands, N atoms of all images, R = N + 3 S rows,
M images of one band with both ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rutile.core.errors import GeometryError
from rutile.core.reporting import Reporter
from rutile.core.units import GPA
from rutile.potentials.checks import check_structures
from rutile.potentials.potential import Potential, Prediction
from rutile.simulate.chain import Chain
from rutile.simulate.fire import FireSteps
from rutile.simulate.forces import ForceField
from rutile.simulate.settings import NebSettings
from rutile.simulate.steps import Layout, Memory
from rutile.structures.structures import Structures, concatenate

Keep = Callable[[int, Structures], None]


@dataclass(frozen=True)
class Band:
    """A path and what became of it."""

    images: Structures
    """All images in order, with both ends, [M] systems."""
    energy: Tensor
    """Energy of the images (eV), with P V where the cell moves, [M]."""
    slope: Tensor
    """Slope of the energy along the path (eV/Angstrom), [M]; 0 at the ends."""
    coordinate: Tensor
    """Length of the path up to each image (Angstrom), [M]."""
    fmax: float
    """Largest force of the band on an atom of any image (eV/Angstrom)."""
    steps: int
    """Steps taken."""
    converged: bool
    """Whether fmax is below the limit, with a climbing image if one was asked for."""
    failure: str
    """Why it failed; empty: it did not."""

    @property
    def top(self) -> int:
        """The image of the highest energy, among all but the ends."""
        return int(self.energy[1:-1].argmax()) + 1

    @property
    def barrier(self) -> float:
        """Energy of the highest image above the first (eV)."""
        return float(self.energy[self.top] - self.energy[0])

    @property
    def reverse_barrier(self) -> float:
        """Energy of the highest image above the last (eV)."""
        return float(self.energy[self.top] - self.energy[-1])

    @property
    def reaction_energy(self) -> float:
        """Energy of the last image above the first (eV)."""
        return float(self.energy[-1] - self.energy[0])

    def curve(self, points: int = 200) -> tuple[Tensor, Tensor]:
        """Cubic curve through energies and slopes: path (Angstrom) and energy (eV), both [points]."""
        from scipy.interpolate import CubicHermiteSpline

        x = torch.linspace(0.0, float(self.coordinate[-1]), points, dtype=torch.float64)
        spline = CubicHermiteSpline(self.coordinate.numpy(), self.energy.numpy(), self.slope.numpy())
        return x, torch.as_tensor(spline(x.numpy()))


@dataclass(frozen=True)
class _Moving:
    """Bands on their way."""

    images: Structures
    """Of all bands, band after band."""
    free: Tensor
    """Atoms that move, [N] bool."""
    number: Tensor
    """Which of the given bands, [B]."""
    sizes: Tensor
    """Images of each band, [B]."""
    energy: Tensor
    """Of the images (eV), [S]; those of the ends from the beginning."""
    climbing: Tensor
    """Whether the highest image climbs, [B] bool."""
    memory: Memory
    """Of the optimizer."""

    @property
    def band(self) -> Tensor:
        """Band of each image, [S]."""
        return torch.arange(len(self.sizes)).repeat_interleave(self.sizes)


def neb(
    paths: Sequence[Structures],
    potential: Potential,
    settings: NebSettings,
    reporter: Reporter,
    fixed: Sequence[Tensor] | None = None,
    keep: Keep | None = None,
) -> list[Band]:
    """Relax paths between two minima each to paths of least energy.

    Args:
        paths: images of each path in order, at least three, relaxed ends first and last (`guess.first_guess`).
        potential: gives the forces, in its own precision and on its own device.
        settings: springs, climbing, limits.
        reporter: told how many paths are done.
        fixed: atoms that stay, for each path, [atoms of an image] bool.
        keep: called every `settings.keep_every` steps with the number of a path and its images.

    Raises:
        GeometryError: images of a path differ in their atoms, or its cell shall move and it is not periodic in 3-D.
        ElementError: an element that the potential was not trained on.
    """
    given = [p.to(dtype=torch.float64, device="cpu") for p in paths]
    for k, path in enumerate(given):
        _check(k, path, settings)
        check_structures(path, potential.elements)
    held = fixed or [torch.zeros(p.n_atoms // p.n_systems, dtype=torch.bool) for p in given]
    loop = _relax_all(given, held, potential, settings, keep) if given else iter(())
    done = dict(reporter.track(loop, "Paths", total=len(given)))
    return [done[k] for k in range(len(given))]


def _check(k: int, path: Structures, settings: NebSettings) -> None:
    """Refuse what is no path."""
    counts = path.counts
    if path.n_systems < 3:
        raise GeometryError(f"path {k} has {path.n_systems} images: it needs two ends and at least one between them")
    if not bool((counts == counts[0]).all()):
        raise GeometryError(f"path {k}: its images have {sorted(set(counts.tolist()))} atoms; all need the same atoms")
    numbers = path.numbers.reshape(path.n_systems, -1)
    if not bool((numbers == numbers[0]).all()):
        raise GeometryError(f"path {k}: the elements of its images come in different orders; sort the ends alike")
    if not settings.cell and not torch.allclose(path.cell, path.cell[:1].expand_as(path.cell), rtol=0, atol=1e-6):
        raise GeometryError(
            f"path {k}: the cells of both ends differ; let cells move (cell=true), or relax with cell=none"
        )
    if settings.cell and not bool(path.pbc.all()):
        raise GeometryError(f"path {k} is not periodic in three directions: its cell cannot move (cell=false)")


def _relax_all(
    given: Sequence[Structures], fixed: Sequence[Tensor], potential: Potential, settings: NebSettings, keep: Keep | None
) -> Iterator[tuple[int, Band]]:
    """The loop; yields bands as they leave."""
    forces, optimizer = ForceField(potential), FireSteps()
    moving = _begin(given, fixed, potential, optimizer, settings)
    for step in range(settings.max_steps + 1):
        chain = Chain.of(moving.images, moving.sizes, settings.cell)
        inside = moving.images.select(chain.inner)
        now, closest = forces(inside)
        energy = moving.energy.clone()
        energy[chain.inner] = now.energy + _work(inside, settings)
        moving = replace(moving, energy=energy)
        force = _force(moving, chain, now, settings)
        tangent = chain.tangent(energy)
        nudged = _nudged(moving, chain, force, settings)
        fmax = chain.largest(nudged)
        begins = ~moving.climbing & (fmax <= settings.climb_below) & settings.climb
        if bool(begins.any()):  # with this step, so that a band that had converged stays as it is
            moving = replace(moving, climbing=moving.climbing | begins)
            nudged = _nudged(moving, chain, force, settings)
            fmax = chain.largest(nudged)
        reasons = _failures(moving, chain, now, closest, settings, step)
        converged = (fmax <= settings.fmax) & (moving.climbing | (not settings.climb))
        leaving = converged | torch.tensor([bool(r) for r in reasons]) | (step == settings.max_steps)
        slope = -chain.dot(force, tangent)
        for b in leaving.nonzero().squeeze(1).tolist():
            which = moving.band == b
            images, numbers = moving.images.select(which), (energy[which], slope[which], chain.coordinate[which])
            facts = Band(images, *numbers, float(fmax[b]), step, bool(converged[b]), reasons[b])
            yield int(moving.number[b]), facts
        if bool(leaving.all()):
            return
        moving = _moved(moving, chain, nudged, optimizer, settings)
        moving = _staying(moving, ~leaving)
        if keep is not None and step % settings.keep_every == settings.keep_every - 1:
            for b, number in enumerate(moving.number.tolist()):
                keep(number, moving.images.select(moving.band == b))


def _begin(
    given: Sequence[Structures],
    fixed: Sequence[Tensor],
    potential: Potential,
    optimizer: FireSteps,
    settings: NebSettings,
) -> _Moving:
    """All bands at rest; energies of the ends."""
    images = concatenate(given)
    sizes = torch.tensor([p.n_systems for p in given])
    ends = ~Chain.of(images, sizes, settings.cell).inner
    two = images.select(ends)
    energy = torch.zeros(images.n_systems, dtype=torch.float64)
    energy[ends] = ForceField(potential)(two)[0].energy + _work(two, settings)
    return _Moving(
        images,
        ~torch.cat([f.repeat(p.n_systems) for f, p in zip(fixed, given, strict=True)]),
        torch.arange(len(given)),
        sizes,
        energy,
        torch.full((len(given),), settings.climb and settings.climb_below == float("inf")),
        optimizer.begin(images.n_atoms + 3 * images.n_systems + 3 * len(given), len(given)),
    )


def _nudged(moving: _Moving, chain: Chain, force: Tensor, settings: NebSettings) -> Tensor:
    """Forces along the springs and across the band, of climbing images uphill along it."""
    climber = chain.highest(moving.energy) & moving.climbing[moving.band]
    return chain.nudged(force, chain.tangent(moving.energy), settings.spring, climber)


def _work(images: Structures, settings: NebSettings) -> Tensor:
    """P V of each image (eV), [S]; 0 where the cell stays."""
    return settings.pressure * GPA * images.volume if settings.cell else torch.zeros(images.n_systems).double()


def _force(moving: _Moving, chain: Chain, now: Prediction, settings: NebSettings) -> Tensor:
    """Forces of the potential on atoms that move and, where they move, on cells (eV/Angstrom), [R, 3]."""
    images = moving.images
    inside = chain.inner[images.system]
    atoms = torch.zeros_like(images.positions)
    atoms[inside] = now.forces
    cells = torch.zeros(images.n_systems, 3, 3, dtype=torch.float64)
    if settings.cell:
        unbalanced = now.stress + settings.pressure * GPA * torch.eye(3, dtype=torch.float64)
        volume = images.volume[chain.inner]
        cells[chain.inner] = -volume[:, None, None] * 0.5 * (unbalanced + unbalanced.mT)
    return torch.cat([atoms * moving.free[:, None], (cells / chain.scale[:, None, None]).reshape(-1, 3)])


def _failures(
    moving: _Moving, chain: Chain, now: Prediction, closest: Tensor, settings: NebSettings, step: int
) -> list[str]:
    """For each band why it has failed, or ""."""
    reasons = [""] * len(moving.sizes)
    bands = moving.band[chain.inner].tolist()
    system = torch.repeat_interleave(moving.images.counts[chain.inner])
    broken = torch.zeros(len(bands)).index_add(0, system, (~now.forces.isfinite().all(1)).float()) > 0
    broken |= ~now.energy.isfinite()
    for s, b in enumerate(bands):
        if closest[s] < settings.closest:
            reasons[b] = f"two atoms of an image are {closest[s]:.2f} Å apart at step {step}"
        elif broken[s]:
            reasons[b] = f"energy or forces of an image are not finite at step {step}"
    return reasons


def _moved(moving: _Moving, chain: Chain, nudged: Tensor, optimizer: FireSteps, settings: NebSettings) -> _Moving:
    """One step of every band."""
    images, n_bands, n_rows = moving.images, len(moving.sizes), len(nudged)
    group = torch.cat([chain.band[chain.image], torch.arange(n_bands).repeat_interleave(3)])
    layout = Layout(group, n_rows, torch.ones(n_bands, dtype=torch.float64), settings.max_move)
    force = torch.cat([nudged, torch.zeros(3 * n_bands, 3, dtype=torch.float64)])
    move, memory = optimizer.step(force, layout, moving.memory)
    positions = images.positions + move[: images.n_atoms]
    if not settings.cell:
        return replace(moving, images=images.replace(positions=positions), memory=memory)
    strain = move[images.n_atoms : n_rows].reshape(-1, 3, 3) / chain.scale[:, None, None]
    deform = torch.linalg.matrix_exp(0.5 * (strain + strain.mT))
    positions = torch.einsum("na,nab->nb", positions, deform[images.system])
    return replace(moving, images=images.replace(positions=positions, cell=images.cell @ deform), memory=memory)


def _staying(moving: _Moving, which: Tensor) -> _Moving:
    """Only some of the bands, [B] bool."""
    if bool(which.all()):
        return moving
    image = which[moving.band]
    atoms = image[moving.images.system]
    return _Moving(
        moving.images.select(image),
        moving.free[atoms],
        moving.number[which],
        moving.sizes[which],
        moving.energy[image],
        moving.climbing[which],
        moving.memory.keep(torch.cat([atoms, image.repeat_interleave(3)]), which),
    )
