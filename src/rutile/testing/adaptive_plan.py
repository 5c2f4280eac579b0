"""A small adaptive search, for tests and soaks: copper, with EMT as labeler and a committee that learns in seconds."""

from __future__ import annotations

from typing import Any

QUICK: dict[str, Any] = {
    "formula": "Cu", "structure": {"name": "crystal", "units": [1, 2]}, "engine": {"name": "emt"}, "begin": 8,
    "batch": 8, "rest": 32, "pool": {"size": 8, "elite": 2}, "first": 8, "fmax": 0.1, "smax": 1.0, "max_steps": 60,
    "final": 2, "ask": {"per_version": 5, "after": 16}, "teach": {"after": 4}, "stop": {"labels": 30, "versions": 2},
    "committee": {
        "potential": {
            "name": "behler", "hidden": [6],
            "auto": {"cutoff": 4.5, "n_radial": 4, "angular_etas": [0.01], "zetas": [1.0]},
        },
        "members": 2, "workers": 1, "threads": 1, "epochs": 4, "validate_every": 4, "keep": "last",
        "optimizer": {"name": "lbfgs"}, "schedule": {"name": "constant"},
    },
    "retrain": {"name": "warm", "epochs": 3, "rate": 1.0},
}  # fmt: skip
"""Settings of `rutile adapt`."""
