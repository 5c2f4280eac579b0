"""FIRE 2.0: motion that is stopped where it leads uphill, and steered towards the forces.

    P = F.v;  P > 0: dt -> min(1.1 dt, dt_max), a -> 0.99 a (after 20 such steps);  else R -= v dt/2, v = 0, dt -> dt/2
    v += F dt;  v -> (1 - a) v + a F |v|/|F|;  R += v dt

Sources: E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), doi:10.1103/PhysRevLett.97.170201; FIRE 2.0:
J. Guenole et al., Comput. Mater. Sci. 175, 109584 (2020), doi:10.1016/j.commatsci.2020.109584.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rutile.simulate.steps import Layout, Memory

TIME_STEP, SHORTEST, LONGEST = 0.1, 2e-3, 1.0
"""First, shortest and longest time step (Angstrom / sqrt(eV), unit mass)."""
MIXING = 0.25
"""First value of a."""
PATIENCE = 20
"""Downhill steps before the time step grows."""


class FireSteps:
    """An `Optimizer`."""

    def begin(self, n_rows: int, n_systems: int) -> Memory:
        """Structures at rest."""
        return Memory(
            {"velocity": torch.zeros(n_rows, 3, dtype=torch.float64)},
            {
                "time_step": torch.full((n_systems,), TIME_STEP, dtype=torch.float64),
                "mixing": torch.full((n_systems,), MIXING, dtype=torch.float64),
                "downhill": torch.full((n_systems,), -1),
            },
        )

    def step(self, force: Tensor, layout: Layout, memory: Memory) -> tuple[Tensor, Memory]:
        """One step; `downhill` counts the steps downhill in a row, -1 before the first."""
        system, v = layout.system, memory.rows["velocity"]
        dt, a, downhill = (memory.systems[name] for name in ("time_step", "mixing", "downhill"))
        down = layout.dot(force, v) > 0
        first = downhill < 0
        downhill = torch.where(down, downhill + 1, 0)
        grow = downhill > PATIENCE
        dt = torch.where(grow, (1.1 * dt).clamp(max=LONGEST), dt)
        dt = torch.where(down | first, dt, (0.5 * dt).clamp(min=SHORTEST))
        a = torch.where(grow, 0.99 * a, torch.where(down, a, MIXING))
        back = torch.where(down, 0.0, -0.5 * dt)
        move = back[system, None] * v
        v = torch.where(down[system, None], v, 0.0) + dt[system, None] * force
        speed = (layout.dot(v, v) / layout.dot(force, force).clamp(min=1e-300)).sqrt()
        v = (1 - a)[system, None] * v + (a * speed)[system, None] * force
        move = move + dt[system, None] * v
        limit = layout.shortening(move)[system, None]
        systems = {"time_step": dt, "mixing": a, "downhill": downhill}
        return limit * move, Memory({"velocity": limit * v}, systems)
