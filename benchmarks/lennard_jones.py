"""Lennard-Jones clusters without rutile: energy, quench and known minima, for benchmarks and the codes beside them.

Units of epsilon and sigma. Known minima: D. J. Wales and J. P. K. Doye, J. Phys. Chem. A 101, 5111 (1997),
doi:10.1021/jp970984n. Needs NumPy and SciPy only; does nothing when run itself.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

KNOWN = {13: -44.326801, 26: -108.315616, 38: -173.928427, 55: -279.248470, 75: -397.492331}
NEAR = 1e-3
"""The minimum is found when the energy is so near (epsilon)."""
PAIR = 2 ** (1 / 6)
"""Distance of a pair at rest (sigma)."""


def quench(x: np.ndarray) -> tuple[np.ndarray, float]:
    """Positions [atoms, 3] at the nearest minimum, and its energy."""
    done = minimize(_lennard_jones, x.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-4})
    return done.x.reshape(-1, 3), float(done.fun)


def _lennard_jones(flat: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy and gradient."""
    x = flat.reshape(-1, 3)
    v = x[:, None] - x
    r2 = np.maximum((v**2).sum(2), 0.01)
    np.fill_diagonal(r2, np.inf)
    sixth = r2**-3
    slope = 24 * (sixth - 2 * sixth**2) / r2
    return float(2 * (sixth**2 - sixth).sum()), (slope[:, :, None] * v).sum(1).ravel()
