"""The last part of `rutile demo`: an adaptive search for TiO2 that begins with nothing but the formula."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rutile.tasks.adapt import AdaptResult, AdaptSettings
    from rutile.train.report import Section

SHOWN = 8
"""Structures in the table of the demo's page."""


def adapt_settings(out: Path, labels: int, seed: int) -> AdaptSettings:
    """The search; its labeler is the potential of rigid ions.

    Args:
        out: folder.
        labels: at most, without those of the final relaxations.
        seed: of all random numbers.
    """
    from rutile.tasks.adapt import AdaptSettings

    job: dict[str, Any] = {
        "formula": "TiO2",
        "structure": {"name": "crystal", "units": [2, 4]},
        "engine": {"name": "rigid_ion"},
        "committee": {
            "potential": {
                "name": "behler",
                "hidden": [20, 20],
                "activation": "tanh",
                "auto": {"cutoff": 5.0, "n_radial": 6, "angular_etas": [0.003, 0.05], "zetas": [1.0, 4.0]},
            },
            "members": 2, "workers": 1, "threads": 1, "epochs": 8, "validate_every": 8, "keep": "last", "valid": 0.1,
            "optimizer": {"name": "lbfgs"}, "schedule": {"name": "constant"},
            "loss": {"energy": {"start": 10, "limit": 10}, "force": {"start": 1, "limit": 1}},
        },
        "retrain": {"name": "warm", "epochs": 6, "rate": 1.0},
        "operators": {"new": 3, "heredity": 2},
        "ask": {"per_version": 8, "after": 56, "apart": 0.12, "max_force": 40},
        "teach": {"after": 6},
        "stop": {"labels": labels, "versions": 10},
        "rest": 80, "fmax": 0.1, "smax": 0.5, "max_steps": 100, "final": 4, "final_steps": 15,
        "at_once": False,
        "seed": seed,
        "out": out,
    }  # fmt: skip
    return AdaptSettings.model_validate(job)


def named(result: AdaptResult) -> list[str]:
    """Names of the structure types that the search found, lowest first, each once."""
    return list(dict.fromkeys(row.name for row in result.structures if row.name))


def adapt_section(result: AdaptResult) -> Section:
    """What the search found."""
    from rutile.tasks.adapt_page import COLUMNS
    from rutile.tasks.property import table_of
    from rutile.train.report import Links, Section, Text

    names = named(result)
    intro = (
        "Where nothing but a formula is known: random crystals were labelled, a first and poor potential learned them, "
        f"and a genetic search on it brought the next labels, while it went on. {len(result.versions)} versions of the "
        f"potential learned from {result.labels} labels; {result.relaxations} structures were relaxed on them. The "
        "labeler is the potential of rigid ions here, whose lowest structure is rutile; another engine, such as DFT, "
        f"takes one more line. Known structure types among what it found: {', '.join(names) or 'none'}."
    )
    table = table_of(result.structures[:SHOWN], COLUMNS)
    return Section("Adaptive search", [Text(intro), *table, Links([("the whole search", "adapt/report.html")])])
