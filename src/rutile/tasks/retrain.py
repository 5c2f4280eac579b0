"""`rutile retrain`: teach a trained model new structures without losing the old ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from rutile.core.errors import ForgettingError
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, merged
from rutile.core.units import EVPerAngstrom
from rutile.data.settings import ReadSettings, ReferenceSettings, SplitSettings
from rutile.potentials.settings import training_defaults
from rutile.potentials.settings.stored import stored_members
from rutile.tasks.task import Task
from rutile.tasks.train import PartError, TrainResult, TrainTaskSettings
from rutile.tasks.train import run as train
from rutile.train.settings import TrainSettings

GENTLER = 0.3
"""Learning rates of retraining, as parts of those that suit the potential from the start."""
DEFAULTS: dict[str, Any] = {"epochs": 100, "keep": "last", "reweight": {"gamma": 0.5}}
"""What suits retraining unless others are given: new structures alone shall not choose the weights."""


class RetrainSettings(TrainSettings):
    """Which model to teach what; what is not given suits the potential, with a third of its learning rates."""

    model: Path
    """The trained model (file, or folder of a run)."""
    new: list[Path] = Field(min_length=1)
    """Files with the new structures; some are set aside for validation."""
    old: list[Path] = Field(min_length=1)
    """Files with the structures it has learned before: some are trained on again, and some only measured."""
    out: Path = Path("retrained")
    """Folder of the run, as of `rutile train`."""
    replay_fraction: float = Field(default=0.8, gt=0, lt=1)
    """Fraction of the training structures that are old ones, chosen at random; at most as many as there are."""
    old_weight: float = Field(default=1.0, gt=0)
    """Weight of each old structure in the loss; a new one counts 1."""
    tolerance: float = Field(default=0.1, ge=0)
    """By what part the errors on old structures may grow. Beyond it the retraining has failed."""
    read: ReadSettings = ReadSettings()
    """How to read the files."""
    split: SplitSettings = SplitSettings()
    """Which new structures are for validation, and which only measure errors at the end (test)."""
    references: ReferenceSettings = ReferenceSettings()
    """Energies of isolated atoms of new elements and reference methods."""
    freeze: list[str] = []
    """Parameters that are not trained, by name or pattern such as "embedding.*"."""
    lora_rank: int | None = Field(default=None, ge=1)
    """Train updates of so low a rank instead of the matrices (LoRA)."""
    mode_balance: float = Field(default=1.0, ge=0, le=1)
    """Weight of a reference method of n structures: n to this power."""
    resume: bool = True
    """Go on from the checkpoint in `out`, if there is one."""
    report_force_limit: EVPerAngstrom | None = Field(default=None, gt=0)
    """Report errors of frames with all reference forces |F| below this apart from the others."""

    @classmethod
    def suited(cls, data: Any) -> Any:
        """What suits retraining of that architecture, where nothing else is given."""
        if not isinstance(data, dict) or "model" not in data:
            return data
        names = stored_members(Path(data["model"]))
        suits = merged(DEFAULTS, training_defaults(names[0])) | DEFAULTS if names else DEFAULTS
        optimizer = suits.get("optimizer", TrainSettings.model_fields["optimizer"].default.model_dump())
        gentle = {k: GENTLER * v if k.endswith("learning_rate") else v for k, v in optimizer.items()}
        return merged(suits | {"optimizer": gentle}, data)


class Change(Result):
    """Error of one quantity before and after."""

    structures: str
    """old, or new; structures that were not trained on."""
    quantity: str
    """energy (per atom), force (components) or stress (components)."""
    unit: str
    """Of the errors."""
    before: float
    """RMSE of the model as it was."""
    after: float
    """RMSE of the retrained model."""


class RetrainResult(Result):
    """Where the retrained model is, and what it learned and kept."""

    model: Path
    """The retrained model."""
    report: Path
    """HTML page with learning curves, parity plots and errors."""
    changes: list[Change]
    """Errors before and after, on old and on new structures."""


def run(settings: RetrainSettings, reporter: Reporter) -> RetrainResult:
    """Teach a model new structures while it repeats old ones; fails where it has forgotten too much.

    Raises:
        ForgettingError: an error on old structures grew by more than `tolerance`. The model is kept as
            `model-rejected.rutile`.
    """
    trained = train(_job(settings), reporter)
    changes = _changes(trained)
    worse = [c for c in changes if c.structures == "old" and c.after > (1 + settings.tolerance) * c.before]
    if worse:
        rejected = trained.model.rename(trained.model.with_name("model-rejected.rutile"))
        said = ", ".join(f"{c.quantity} RMSE {c.before:.4g} → {c.after:.4g} {c.unit}" for c in worse)
        raise ForgettingError(
            f"the model has forgotten: on old structures {said}, more than {100 * settings.tolerance:g} % worse; it is "
            f"kept as {rejected}. Give old structures more weight (replay_fraction, old_weight), lower "
            "optimizer.learning_rate, or accept more (tolerance)"
        )
    learned = [c for c in changes if c.structures == "new"]
    if learned and all(c.after >= c.before for c in learned):
        reporter.warn("nothing was learned: no error on new structures is smaller than before; give more epochs")
    return RetrainResult(model=trained.model, report=trained.report, changes=changes)


def _job(settings: RetrainSettings) -> TrainTaskSettings:
    """The same as a training."""
    own = {"model", "new", "old", "old_weight", "tolerance"}
    same = {name: getattr(settings, name) for name in RetrainSettings.model_fields if name not in own}
    return TrainTaskSettings(
        **same,
        data=settings.new,
        start_from=settings.model,
        replay=settings.old,
        replay_weight=settings.old_weight,
        members=len(stored_members(settings.model)) or 1,
    )


def _changes(trained: TrainResult) -> list[Change]:
    """RMSE of energy, force and stress, before and after."""
    names = {"replay": "old", "valid": "new"}
    after: Mapping[tuple[str, str], PartError] = {(e.part, e.quantity): e for e in trained.errors if e.frames == "all"}
    return [
        Change(structures=names[b.part], quantity=b.quantity, unit=b.unit, before=b.rmse,
               after=after[b.part, b.quantity].rmse)
        for b in trained.before
        if b.frames == "all" and b.quantity in ("energy", "force", "stress")
    ]  # fmt: skip


TASK = Task(
    "retrain",
    RetrainSettings,
    RetrainResult,
    run,
    examples=(
        "rutile retrain model=run new=hot.extxyz old=frames.extxyz",
        "rutile retrain model=run new=[a.extxyz,b.extxyz] old=frames.extxyz replay_fraction=0.7 tolerance=0.05",
        "rutile retrain model=run new=hot.extxyz old=frames.extxyz reweight.gamma=1 epochs=50 out=run2",
    ),
)
