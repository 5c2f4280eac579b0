"""L-BFGS without line search, each structure with its own memory and step control.

The move is d = H F with the inverse Hessian that m remembered pairs s (move) and y (loss of force) make of gamma 1,

    H = gamma 1 + [S  gamma Y] [ R^-T (D + gamma Y^T Y) R^-1   -R^-T ] [    S^T    ]
                               [            -R^-1                0   ] [ gamma Y^T ]

with R the upper triangle of S^T Y, D its diagonal, and gamma = s.y / y.y of the last pair. That is the recursion of
two loops in a form in which all structures are worked on at once.

- A pair is remembered only where the force along the move falls enough: s.y > 0.001 |s| |y|.
- No atom moves further than the limit. Where the last move led uphill, by the forces at both ends
  ((F_old + F_new).s < 0; energies in float32 are too coarse), the next one goes back to the minimum along it, and the
  limit is halved; it grows again with each good move.
- A structure that was led uphill again and again goes on with FIRE, which also ends where forces jump.

Sources: J. Nocedal, Math. Comput. 35, 773 (1980), doi:10.1090/S0025-5718-1980-0572855-7; the compact form: R. H. Byrd,
J. Nocedal, R. B. Schnabel, Math. Program. 63, 129 (1994), doi:10.1007/BF01582063.
Letters of shapes: S systems, R rows, M pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rutile.simulate.fire import FireSteps
from rutile.simulate.steps import Layout, Memory

FIRST = 1 / 50
"""Inverse curvature before any is known (Angstrom^2/eV)."""
CURVED = 1e-3
"""Least cosine of move and loss of force of a pair that is remembered."""
SMALLEST_LIMIT = 0.05
"""Of `max_move`: the limit is not made smaller."""
FADING = 0.9
"""What remains, at each good move, of the count of moves uphill."""
ENOUGH = 3.0
"""Count of moves uphill at which FIRE takes over."""


class LbfgsSteps:
    """An `Optimizer`.

    Args:
        history: pairs that each structure remembers.
    """

    def __init__(self, history: int) -> None:
        self.history, self.fire = history, FireSteps()

    def begin(self, n_rows: int, n_systems: int) -> Memory:
        """Nothing is remembered."""
        m, kind = self.history, torch.float64
        fire = self.fire.begin(n_rows, n_systems)
        rows = {
            "s": torch.zeros(n_rows, m, 3, dtype=kind),
            "y": torch.zeros(n_rows, m, 3, dtype=kind),
            "force": torch.zeros(n_rows, 3, dtype=kind),
            "move": torch.zeros(n_rows, 3, dtype=kind),
        }
        systems = {
            "sy": torch.zeros(n_systems, m, m, dtype=kind),
            "yy": torch.zeros(n_systems, m, m, dtype=kind),
            "limit": torch.ones(n_systems, dtype=kind),
            "uphill": torch.zeros(n_systems, dtype=kind),
        }
        return Memory(rows | fire.rows, systems | fire.systems)

    def step(self, force: Tensor, layout: Layout, memory: Memory) -> tuple[Tensor, Memory]:
        """One step: remember, then move along H F, back, or by FIRE."""
        system, last = layout.system, memory.rows["move"]
        before, after = layout.dot(memory.rows["force"], last), layout.dot(force, last)
        uphill = before + after < 0
        count, limit = memory.systems["uphill"], memory.systems["limit"]
        count = torch.where(count > ENOUGH, count, torch.where(uphill, count + 1, FADING * count))
        limit = torch.where(uphill, (0.5 * limit).clamp(min=SMALLEST_LIMIT), (1.2 * limit).clamp(max=1.0))
        rows, systems = self._remembered(force, layout, memory)
        move = self._newton(force, layout, rows, systems)
        steep = layout.dot(force, move) <= 0  # rounding
        move = torch.where(steep[system, None], FIRST * force, move)
        move = layout.shortening(move / limit[system, None])[system, None] * move
        back = (after / (before - after).clamp(min=1e-300)).clamp(-1, 0)  # to where the force along the move vanishes
        move = torch.where(uphill[system, None], back[system, None] * last, move)
        systems |= {"uphill": count, "limit": limit}
        return self._or_fire(move, force, layout, memory, Memory(rows | {"force": force, "move": move}, systems))

    def _remembered(self, force: Tensor, layout: Layout, memory: Memory) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Histories with the last move, where it tells the curvature."""
        s, y = memory.rows["move"], memory.rows["force"] - force
        sy, ss, yy = layout.dot(s, y), layout.dot(s, s), layout.dot(y, y)
        good = sy > CURVED * (ss * yy).sqrt()
        here = good[layout.system, None, None]
        all_s = torch.where(here, torch.cat([memory.rows["s"][:, 1:], s[:, None]], 1), memory.rows["s"])
        all_y = torch.where(here, torch.cat([memory.rows["y"][:, 1:], y[:, None]], 1), memory.rows["y"])
        both = layout.sum(torch.cat([(all_s * y[:, None]).sum(2), (all_y * y[:, None]).sum(2)], 1))  # [S, 2 M]
        gram = []
        for name, column in zip(("sy", "yy"), both.split(self.history, 1), strict=True):
            moved = memory.systems[name].roll((-1, -1), (1, 2))
            moved[:, :, -1] = column
            moved[:, -1, :] = column if name == "yy" else 0.0
            moved[:, -1, -1] = column[:, -1]
            gram.append(torch.where(good[:, None, None], moved, memory.systems[name]))
        return {"s": all_s, "y": all_y}, {"sy": gram[0], "yy": gram[1]}

    def _newton(self, force: Tensor, layout: Layout, rows: dict[str, Tensor], systems: dict[str, Tensor]) -> Tensor:
        """H F, [R, 3]."""
        s, y, sy, yy = rows["s"], rows["y"], systems["sy"], systems["yy"]
        latest = sy[:, -1, -1]
        gamma = torch.where(latest > 0, latest / yy[:, -1, -1].clamp(min=1e-300), FIRST)
        both = layout.sum(torch.cat([(s * force[:, None]).sum(2), (y * force[:, None]).sum(2)], 1))
        a, b = both.split(self.history, 1)
        diagonal = sy.diagonal(dim1=1, dim2=2)
        upper = sy.triu() + torch.diag_embed((diagonal == 0).double())  # places not filled yet
        u = torch.linalg.solve_triangular(upper, a[:, :, None], upper=True)
        inner = diagonal[:, :, None] * u + gamma[:, None, None] * (yy @ u - b[:, :, None])
        top = torch.linalg.solve_triangular(upper.mT, inner, upper=False)
        weights = torch.cat([top, -gamma[:, None, None] * u], 1)[:, :, 0]  # [S, 2 M]
        own = weights[layout.system]
        g = gamma[layout.system, None]
        by_s, by_y = own.split(self.history, 1)
        return g * force + torch.einsum("rm,rmk->rk", by_s, s) + torch.einsum("rm,rmk->rk", by_y, y)

    def _or_fire(
        self, move: Tensor, force: Tensor, layout: Layout, memory: Memory, now: Memory
    ) -> tuple[Tensor, Memory]:
        """The move, or that of FIRE for structures that were led uphill too often."""
        names = self.fire.begin(0, 0)
        own = Memory({k: memory.rows[k] for k in names.rows}, {k: memory.systems[k] for k in names.systems})
        lost = now.systems["uphill"] > ENOUGH
        if bool(lost.any()):
            other, moved = self.fire.step(force, layout, own)
            here = lost[layout.system, None]
            move = torch.where(here, other, move)
            own = Memory(
                {k: torch.where(here, moved.rows[k], v) for k, v in own.rows.items()},
                {k: torch.where(lost, moved.systems[k], v) for k, v in own.systems.items()},
            )
        return move, Memory(now.rows | own.rows | {"move": move}, now.systems | own.systems)
