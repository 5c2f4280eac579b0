"""What must be equal for a run to go on from its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rutile.core.errors import SettingsError
from rutile.potentials.settings.stored import each_term, equal_waves, without_core
from rutile.train.loggers import flat
from rutile.train.settings import TrainSettings

WATCHING = {"tensorboard", "wandb", "mlflow"}
FREE = frozenset(
    {
        "epochs",
        "max_seconds",
        "patience",
        "checkpoint_seconds",
        "cache_memory",
        "cache_disk",
        "threads",
        "device",
        *WATCHING,
    }
)
"""Settings that may differ when a run goes on."""
YOUNGER = frozenset({"reweight", "compile", "accumulate", "matmul"})
"""Settings that checkpoints of earlier versions do not know; at their defaults they change nothing."""


def said(settings: TrainSettings) -> dict[str, Any]:
    """Settings that a run must keep, as JSON values; younger ones only where they are not at their defaults."""
    whole = settings.model_dump(mode="json", exclude=set(FREE | YOUNGER))
    return whole | settings.model_dump(mode="json", include=set(YOUNGER), exclude_defaults=True)


def require_same(old: dict[str, Any], new: dict[str, Any], path: Path) -> None:
    """Refuse to go on with other settings.

    A potential of before core repulsion, or of before short waves counted less, counts as one without.

    Raises:
        SettingsError: names every setting that differs.
    """
    today = {}
    if "potential" in old:
        today = {"potential": each_term(old["potential"], lambda s: without_core(s) | equal_waves(s))}
    a, b = flat(old | today), flat(new)
    different = [f"{k} was {a.get(k)!r}, now {b.get(k)!r}" for k in sorted(a | b) if a.get(k) != b.get(k)]
    if different:
        raise SettingsError(
            f"{path} belongs to another run: {'; '.join(different)}. Restore these settings, or begin a new run in "
            "another folder (start_from=MODEL goes on from a trained model)"
        )
