"""Training a committee in a loop: the first time, warm with old structures replayed, or anew; and its errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rutile.active.plan import CommitteeSettings, NewTraining, WarmRetraining
from rutile.core.errors import ModeError
from rutile.core.reporting import Reporter
from rutile.data.reading import readings, relabelled
from rutile.data.settings import ReadSettings, SplitSettings
from rutile.potentials.save import load_model
from rutile.tasks import train
from rutile.train.settings import TrainSettings

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.train.assess import Compared

ATOMS_PER_BATCH = 2000


@dataclass(frozen=True)
class CommitteeData:
    """Files with labelled frames."""

    new: Sequence[Path]
    """To be learned."""
    old: Sequence[Path] = ()
    """Learned before, to be replayed."""
    valid: Sequence[Path] = ()
    """For validation; without any all frames are trained on."""


def train_committee(
    committee: CommitteeSettings,
    how: WarmRetraining | NewTraining,
    data: CommitteeData,
    seed: int,
    start: Path | None,
    out: Path,
    reporter: Reporter,
    *,
    report: bool = True,
) -> train.TrainResult:
    """Train a committee; goes on where it stopped.

    Args:
        committee: the potentials and their training.
        how: what is different where it goes on with old weights.
        data: what is learned.
        seed: of weights and batches.
        start: model with the old weights; None: new weights, and `data.old` are learned as the new ones are.
        out: folder of the run.
        reporter: told of progress.
        report: write a page about the training.

    Raises:
        RutileError: as `train.run`.
    """
    fields = {name: getattr(committee, name) for name in TrainSettings.model_fields}
    words: dict[str, Any] = {"data": [*data.new, *data.old], "potential": committee.potential}
    if start is not None and isinstance(how, WarmRetraining):
        fields |= _gentler(committee, how)
        words = {"data": list(data.new), "start_from": start}
        if data.old:
            words |= {"replay": list(data.old)}
            words |= {"replay_fraction": how.replay_fraction, "replay_weight": how.old_weight}
    split = SplitSettings(valid_files=tuple(data.valid)) if data.valid else SplitSettings(valid=0)
    return train.run(
        train.TrainTaskSettings(
            **fields | {"seed": seed},
            **words,
            members=committee.members,
            diversity=committee.diversity,
            workers=committee.workers,
            references=committee.references,
            split=split,
            out=out,
            write_report=report,
        ),
        reporter,
    )


def _gentler(committee: CommitteeSettings, how: WarmRetraining) -> dict[str, Any]:
    """What of the training is different when it goes on with old weights.

    New frames have far larger losses than old ones; that makes no label suspect.
    """
    rates = {k: how.rate * v for k, v in committee.optimizer.model_dump().items() if k.endswith("learning_rate")}
    return {
        "epochs": how.epochs,
        "keep": "last",
        "optimizer": committee.optimizer.model_copy(update=rates),
        "reweight": committee.reweight.model_copy(update={"gamma": how.gamma, "suspect": None}),
    }


def compared(model: Path, files: Sequence[Path], device: str, reporter: Reporter) -> Iterator[Compared]:
    """Labelled frames beside what a model says about them, isolated atoms left out.

    Raises:
        RutileError: a file or the model cannot be read, or the model does not know what is in it.
    """
    from rutile.data.reading import read_frames
    from rutile.train.assess import compare

    members = load_model(model).raw_members(None, device)
    frames = (f for f in read_frames(files, ReadSettings(), reporter) if len(f.numbers) > 1 or f.pbc.any())
    return compare(members, frames, atoms_per_batch=ATOMS_PER_BATCH)


def errors_on(parts: Iterable[Compared]) -> dict[str, float]:
    """Errors over all parts, such as energy_rmse (eV/atom) and force_rmse (eV/Angstrom)."""
    from rutile.train.assess import Assessment

    assessment = Assessment()
    for part in parts:
        assessment.add(part)
    return assessment.errors.overall()


def given_frames(
    files: Sequence[Path], read: ReadSettings, mode: str, more: bool, reporter: Reporter, what: str = "initial.files"
) -> list[Atoms]:
    """Labelled frames that a loop begins with.

    Args:
        files: that hold them.
        read: how to read them.
        mode: name of the engine's reference method.
        more: the engine labels others besides.
        reporter: receives warnings.
        what: name of the setting, for errors.

    Raises:
        ModeError: they are of another reference method than the engine's labels, or do not say of which.
        RutileError: a file cannot be read.
    """
    frames = []
    for reading in readings(files, read) if files else ():
        if reading.problem is not None:
            if read.on_bad == "error":
                raise reading.problem
            reporter.warn(f"skipped: {reading.problem}")
        else:
            atoms = relabelled(reading, read)
            if reading.frame is not None and reading.frame.calc_mode:
                atoms.info["calc_mode"] = reading.frame.calc_mode
            frames.append(atoms)
    modes = {str(a.info.get("calc_mode", "")) for a in frames}
    setting = f"{what.rpartition('.')[0]}.read".lstrip(".")
    if "" in modes:
        raise ModeError(
            f"{what}: frames do not say of which reference method they are (calc_mode); the engine's labels are "
            f"{mode!r}: if these are the same, say {setting}.modes={{'*': {mode}}}"
        )
    if frames and not more and mode not in modes:
        raise ModeError(
            f"{what} are of {', '.join(sorted(modes))}, the engine's labels are {mode!r}: if these are the same, give "
            "engine.calc_mode that name; if not, let the engine label some, too"
        )
    return frames
