"""Integrators at constant volume: velocity Verlet alone, and with thermostats.

One time step is `first` (to new positions), new forces, `second` (to new velocities).

    NVE         B A | B                v += F dt/2m,  R += v dt,  v += F dt/2m
    Langevin    B A/2 O A/2 | B        O: v = c v + sqrt((1 - c^2) kT/m) xi,  c = exp(-gamma dt)
    Nose-Hoover C B A | B C            C: half a step of the chain
    CSVR        B A | B S              S: the kinetic energy is drawn anew, near the old one

Sources: W. C. Swope et al., J. Chem. Phys. 76, 637 (1982), doi:10.1063/1.442716; B. Leimkuhler and C. Matthews,
Appl. Math. Res. Express 2013, 34, doi:10.1093/amrx/abs010; G. J. Martyna, M. L. Klein and M. Tuckerman, J. Chem. Phys.
97, 2635 (1992), doi:10.1063/1.463940; G. J. Martyna et al., Mol. Phys. 87, 1117 (1996), doi:10.1080/00268979600100761;
G. Bussi, D. Donadio and M. Parrinello, J. Chem. Phys. 126, 014101 (2007), doi:10.1063/1.2408420.
Letters of shapes: N atoms, S systems (runs), C thermostats in a chain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rutile.simulate.md.noise import chi_square, noise
from rutile.simulate.md.state import State, kinetic_of


@dataclass(frozen=True)
class Targets:
    """What a time step is made with."""

    dt: float
    """Time step (fs)."""
    kt: Tensor
    """kB times the temperature of each thermostat (eV), [S]."""
    pressure: float
    """Outer pressure (eV/Angstrom^3)."""
    seed: int
    """Of the random numbers."""


class Integrator(Protocol):
    """Makes time steps; has no memory but the state."""

    def begin(self, state: State, targets: Targets) -> State:
        """The state with the variables that this integrator needs."""

    def first(self, state: State, targets: Targets) -> State:
        """From one time to the positions of the next."""

    def second(self, state: State, targets: Targets) -> State:
        """To the velocities of the next, by its forces."""

    def conserved(self, state: State, targets: Targets) -> Tensor:
        """What would stay the same if time steps were short (eV), [S]; NaN where there is no such quantity."""


def kick(state: State, dt: float) -> Tensor:
    """Velocities after forces have acted for a time (Angstrom/fs), [N, 3]."""
    return torch.addcmul(state.velocities, state.ease, state.forces, value=dt)


def moved(state: State, velocities: Tensor, dt: float) -> State:
    """The state with these velocities, and where they lead in a time."""
    positions = torch.add(state.structures.positions, velocities, alpha=dt)
    return state.replace(velocities=velocities, structures=state.structures.replace(positions=positions))


class Nve:
    """Velocity Verlet."""

    def begin(self, state: State, targets: Targets) -> State:
        """Nothing more is needed."""
        return state

    def first(self, state: State, targets: Targets) -> State:
        """B A."""
        return moved(state, kick(state, targets.dt / 2), targets.dt)

    def second(self, state: State, targets: Targets) -> State:
        """B."""
        return state.replace(velocities=kick(state, targets.dt / 2))

    def conserved(self, state: State, targets: Targets) -> Tensor:
        """Total energy without what was put in."""
        return kinetic_of(state) + state.energy - state.heat


class Langevin(Nve):
    """BAOAB.

    Args:
        friction_time: 1/gamma (fs).
    """

    def __init__(self, friction_time: float) -> None:
        self.friction_time = friction_time

    def first(self, state: State, targets: Targets) -> State:
        """B A/2 O A/2."""
        half = moved(state, kick(state, targets.dt / 2), targets.dt / 2)
        warm = warmed(half, self.friction_time, targets)
        return moved(warm, warm.velocities, targets.dt / 2)


def warmed(state: State, friction_time: float, targets: Targets) -> State:
    """O: friction and noise for a whole time step."""
    c = math.exp(-targets.dt / friction_time)
    width = ((1 - c * c) * targets.kt)[state.structures.system, None] * state.ease
    xi = noise(state.structures, targets.seed, state.number, "langevin", state.step)
    after = state.replace(velocities=torch.addcmul(c * state.velocities, width.sqrt_(), xi))
    return after.replace(heat=state.heat + kinetic_of(after) - kinetic_of(state))


class NoseHoover(Nve):
    """A chain of thermostats.

    Args:
        time: time constant (fs).
        length: thermostats in the chain.
    """

    def __init__(self, time: float, length: int) -> None:
        self.chain = Chain("chain", time, length)

    def begin(self, state: State, targets: Targets) -> State:
        """With a chain at rest."""
        return self.chain.begin(state)

    def first(self, state: State, targets: Targets) -> State:
        """C B A."""
        return super().first(self._half(state, targets), targets)

    def second(self, state: State, targets: Targets) -> State:
        """B C."""
        return self._half(super().second(state, targets), targets)

    def _half(self, state: State, targets: Targets) -> State:
        state, scale = self.chain.half(state, 2 * kinetic_of(state), state.dof, targets)
        return state.replace(velocities=state.velocities * scale[state.structures.system, None])

    def conserved(self, state: State, targets: Targets) -> Tensor:
        """Total energy with that of the chain."""
        return super().conserved(state, targets) + self.chain.energy(state, state.dof, targets)


class Chain:
    """A Nose-Hoover chain on some kinetic energy; Q_1 = g kT time^2, Q_c = kT time^2.

    Args:
        name: of its variables in `State.extra`.
        time: time constant (fs).
        length: thermostats.
    """

    def __init__(self, name: str, time: float, length: int) -> None:
        self.place, self.rate, self.time, self.length = name, f"{name}_rate", time, length

    def begin(self, state: State) -> State:
        """With a chain at rest."""
        zero = state.energy.new_zeros(state.n_systems, self.length)
        return state.replace(extra=state.extra | {self.place: zero, self.rate: zero})

    def _inertias(self, kt: Tensor, dof: Tensor) -> list[Tensor]:
        """Q (eV fs^2)."""
        one = kt * self.time**2
        return [one * dof.clamp(min=1), *[one] * (self.length - 1)]

    def half(self, state: State, twice: Tensor, dof: Tensor, targets: Targets) -> tuple[State, Tensor]:
        """Half a time step of the chain.

        Args:
            state: where the chain stands.
            twice: twice the kinetic energy that it is coupled to (eV), [S].
            dof: number of terms of that energy, [S].
            targets: time step and temperature.

        Returns:
            The state with the chain moved, and the factor for the velocities, [S].
        """
        kt, h = targets.kt, targets.dt / 2
        q = self._inertias(kt, dof)
        v = list(state.extra[self.rate].unbind(1))
        last = self.length - 1

        def force(c: int) -> Tensor:
            return (twice - dof * kt) / q[0] if c == 0 else (q[c - 1] * v[c - 1] ** 2 - kt) / q[c]

        def swing(c: int) -> None:
            damp = torch.exp(-h / 4 * v[c + 1]) if c < last else 1.0
            v[c] = (v[c] * damp + h / 2 * force(c)) * damp

        for c in range(last, -1, -1):
            swing(c)
        scale = torch.exp(-h * v[0])
        twice = twice * scale**2
        place = state.extra[self.place] + h * torch.stack(v, 1)
        for c in range(last + 1):
            swing(c)
        return state.replace(extra=state.extra | {self.place: place, self.rate: torch.stack(v, 1)}), scale

    def energy(self, state: State, dof: Tensor, targets: Targets) -> Tensor:
        """Of the chain (eV), [S]."""
        q = torch.stack(self._inertias(targets.kt, dof), 1)
        place = state.extra[self.place]
        kinetic = 0.5 * (q * state.extra[self.rate].square()).sum(1)
        return kinetic + targets.kt * (dof * place[:, 0] + place[:, 1:].sum(1))


class Csvr(Nve):
    """Stochastic velocity rescaling.

    Args:
        time: time constant (fs).
    """

    def __init__(self, time: float) -> None:
        self.time = time

    def second(self, state: State, targets: Targets) -> State:
        """B S."""
        return rescaled(super().second(state, targets), self.time, targets)


def rescaled(state: State, time: float, targets: Targets) -> State:
    """S: a new kinetic energy K' for a whole time step, from noise R_1 ... R_g.

    K' = c K + (1 - c) (kT/2) sum R^2 + 2 R_1 sqrt(c (1 - c) K kT/2), c = exp(-dt/time); velocities turn round with the
    (rare) sign of sqrt(c K) + R_1 sqrt((1 - c) kT/2).
    """
    c = math.exp(-targets.dt / time)
    scales, heats = [], []
    each = (state.number.tolist(), state.dof.tolist(), kinetic_of(state).tolist(), targets.kt.tolist())
    for run, dof, kinetic, kt in zip(*each, strict=True):  # a few numbers: tensors would take longer
        first, others = chi_square(targets.seed, run, dof, state.step)
        if not (dof and kinetic > 0):  # of an atom alone what rounding left of the drift is no motion
            scales.append(1.0)
            heats.append(0.0)
            continue
        width = (1 - c) * kt / 2
        along = math.sqrt(c * kinetic) + math.sqrt(width) * first
        new = along * along + width * others
        scales.append(math.copysign(math.sqrt(new / kinetic), along))
        heats.append(new - kinetic)
    scale, heat = state.energy.new_tensor([scales, heats])
    velocities = state.velocities * (scale if len(scales) == 1 else scale[state.structures.system, None])
    return state.replace(velocities=velocities, heat=state.heat + heat)
