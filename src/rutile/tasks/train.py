"""`rutile train`: from labelled structures to a potential in one file, with its report."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from rutile.core.elements import symbol
from rutile.core.files import folder_for_results, remove_unfinished, write_atomically
from rutile.core.lock import alone_in
from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.settings import Result
from rutile.core.units import EVPerAngstrom, Second
from rutile.tasks.task import Task
from rutile.train.settings import JobSettings, TrainSettings

if TYPE_CHECKING:
    from rutile.data.store import Store
    from rutile.potentials.parts.network import TrainablePotential
    from rutile.train.assess import Assessment
    from rutile.train.examples import GraphExamples, LinearisedExamples
    from rutile.train.fit import FitResult
    from rutile.train.job import Job
    from rutile.train.parallel import Alone

SETTINGS_FILE, REPORT_FILE = "settings.yaml", "report.html"
WORST = 20
"""Structures with the largest errors that the report lists."""
PARTS = {"train": "training", "valid": "validation", "test": "test", "replay": "replayed"}


class TrainTaskSettings(JobSettings):
    """What to train on what."""

    out: Path = Path("run")
    """Folder of the run: model.rutile, report.html, metrics.csv, settings.yaml, checkpoint."""
    resume: bool = True
    """Go on from the checkpoint in `out`, if there is one; refused if settings or data have changed."""
    members: int = Field(default=1, ge=1)
    """Train a committee of so many potentials that differ in their first weights and the order of the structures."""
    diversity: Literal["seeds", "bootstrap", "folds"] = "seeds"
    """In what else the members differ. seeds: nothing; bootstrap: each draws its training structures with replacement;
    folds: each leaves out another part of them."""
    workers: int | None = Field(default=None, ge=1)
    """Members trained at a time, each in a process of its own. Default: one for each GPU; on the CPU as many as
    there are cores for their threads. 1: one after another."""
    report_force_limit: EVPerAngstrom | None = Field(default=None, gt=0)
    """Report errors of frames with all reference forces |F| below this apart from the others."""
    write_report: bool = True
    """Write report.html. Its figures take seconds: of many short trainings as long as these themselves."""

    @model_validator(mode="after")
    def _several_differ(self) -> TrainTaskSettings:
        if self.diversity != "seeds" and self.members < 2:
            raise ValueError(f"diversity={self.diversity} is for a committee: say members=4, for example")
        return self


class PartError(Result):
    """Errors of one quantity on one part of the data."""

    part: str
    """train, valid, test, or replay (old structures that were not trained on)."""
    quantity: str
    """energy (per atom), force (components), force_vector, stress (components)."""
    frames: str
    """all, those below and above the force limit, or those of a calc mode where there are several."""
    unit: str
    """Of the errors."""
    mae: float
    """Mean absolute error."""
    rmse: float
    """Root mean square error."""
    max: float
    """Largest absolute error."""


class TrainResult(Result):
    """Where the model is and how good it is."""

    model: Path
    """The potential: load it, or give it to `rutile evaluate`, `predict`, `relax`."""
    report: Path
    """HTML page with learning curves, parity plots and errors."""
    stopped: str
    """Why training ended: epochs, patience, time, or a signal."""
    epochs: int
    """Complete epochs (of the last member)."""
    best_epoch: int
    """Epoch whose weights were kept (of the last member)."""
    seconds: Second
    """Time in the training loop, all members."""
    errors: list[PartError]
    """MAE, RMSE and maximum on each part of the data."""
    before: list[PartError] = []
    """With start_from: the same before the training, on validation and replayed structures."""


def run(settings: TrainTaskSettings, reporter: Reporter) -> TrainResult:
    """Train a potential on labelled structures; goes on where it stopped when run again."""
    import torch

    from rutile.train.parallel import started_by_torchrun

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with started_by_torchrun(settings.device) as team:
        if not team.first:
            return _train(settings, SilentReporter(), team)
        with folder_for_results(settings.out), alone_in(settings.out, reporter):
            remove_unfinished(settings.out)
            return _train(settings, reporter, team)


def _train(settings: TrainTaskSettings, reporter: Reporter, team: Alone) -> TrainResult:
    """The work of `run`, in a folder that exists; of several ranks the first one alone returns."""
    from rutile.core.seeds import integer
    from rutile.train.signals import remember_signals

    seeds = [settings.seed if m == 0 else integer(settings.seed, "member", m) % 2**31 for m in range(settings.members)]
    began = time.monotonic()
    job = _prepare(settings, seeds, reporter, team)
    seconds = {"reading, neighbours, descriptors": time.monotonic() - began}
    before: dict[str, Assessment] = {}
    if settings.start_from is not None and team.first:
        looked_at = {name: job.examples[name] for name in ("valid", "replay") if name in job.examples}
        before = {n: _assess(settings, job.store, job.potentials, side, n, reporter) for n, side in looked_at.items()}
    with remember_signals() as stop:
        results = _fit_all(settings, job, seeds, reporter, stop)
        if not team.first:
            raise SystemExit(0)
        stopped = next((r.stopped for r in results if r.stopped.startswith("SIG")), results[-1].stopped)
        result = _finish(settings, job, results, before, seconds, reporter)
    if stopped.startswith("SIG"):
        reporter.info(f"stopped by {stopped}; run the same command again to go on from {settings.out}")
        if stopped == "SIGINT":
            raise KeyboardInterrupt
        raise SystemExit(143)
    return result


def _prepare(settings: TrainTaskSettings, seeds: list[int], reporter: Reporter, team: Alone) -> Job:
    """What is trained on what; of several ranks the first one makes what the others then read."""
    from rutile.data.store import Store
    from rutile.train.job import prepare
    from rutile.train.members import division

    workers, _ = division(settings.members, settings.workers, settings.threads, settings.device)
    copies = team.size if team.size > 1 else workers + (workers > 1)  # of what is kept in memory
    fewer = settings.model_copy(update={"cache_memory": settings.cache_memory / copies})
    made: list[Job] = []

    def first() -> str:
        made.append(prepare(fewer, seeds, settings.out, reporter))
        return str(made[0].store.folder)

    folder = team.from_first(first)
    return made[0] if made else prepare(fewer, seeds, settings.out, reporter, Store.open(Path(folder)))


def _fit_all(
    settings: TrainTaskSettings, job: Job, seeds: list[int], reporter: Reporter, stop: Callable[[], str | None]
) -> list[FitResult]:
    """Train each member; ends early, with the members so far, when asked to stop."""
    from rutile.potentials.potential import DescriptorPotential
    from rutile.train.checkpoint import CHECKPOINT_FILE
    from rutile.train.examples import GraphExamples
    from rutile.train.members import Member, division, own_devices, shares, train_members
    from rutile.train.parallel import team

    ranks = team()
    fields = {name: getattr(settings, name) for name in TrainSettings.model_fields}
    own = settings.model_dump(mode="json", include={"potential", "split", "references", "start_from"})
    tuned = {"replay", "replay_fraction", "replay_weight", "freeze", "lora_rank", "mode_balance", "diversity"}
    own |= settings.model_dump(mode="json", include=tuned, exclude_defaults=True)
    if settings.diversity == "folds":
        own |= {"members": settings.members}
    train = job.examples["train"]
    if isinstance(train, GraphExamples) and isinstance(job.potentials[0], DescriptorPotential):
        own |= {"descriptors": "computed in every step"}
    members = []
    devices = own_devices(settings.device, len(seeds)) if ranks.size == 1 else [settings.device] * len(seeds)
    for m, places in enumerate(shares(len(train), len(seeds), settings.diversity, settings.seed)):
        folder = settings.out / f"member-{m + 1}" if len(seeds) > 1 else settings.out
        folder.mkdir(exist_ok=True)
        resume = settings.resume and (folder / CHECKPOINT_FILE).exists()
        if resume:
            reporter.info(f"going on from {folder / CHECKPOINT_FILE}")
        elif m == 0 and ranks.first:
            write_atomically(settings.out / SETTINGS_FILE, _yaml(settings).encode())
        its_train = train if settings.diversity == "seeds" else train.part(places)
        members.append(
            Member(
                number=m + 1,
                potential=job.potentials[m],
                train=its_train,
                valid=job.examples.get("valid", its_train),
                settings=TrainSettings(**(fields | {"seed": seeds[m], "device": devices[m]})),
                folder=folder,
                identity=own | {"data": job.store.hash},
                resume=resume,
            )
        )
    at_once = settings.workers if ranks.size == 1 else 1
    workers, threads = division(len(seeds), at_once, settings.threads, settings.device)
    return train_members(members, reporter, stop, workers=workers, threads=threads)


def _finish(
    settings: TrainTaskSettings,
    job: Job,
    results: list[FitResult],
    before: dict[str, Assessment],
    seconds: dict[str, float],
    reporter: Reporter,
) -> TrainResult:
    """Measure, save the model with its reference energies, write the report, say where everything is."""
    from rutile.potentials.checks import smoothness_note
    from rutile.potentials.model import Model, ModelInfo
    from rutile.potentials.parts.lora import merge_low_rank
    from rutile.potentials.settings.stored import MODEL_FILE
    from rutile.train.start import changes

    potentials, store = job.potentials[: len(results)], job.store  # fewer members where training was stopped
    began = time.monotonic()
    assessments = {
        name: _assess(settings, store, potentials, side, name, reporter) for name, side in job.examples.items()
    }
    seconds |= {"training": sum(r.seconds for r in results), "errors at the end": time.monotonic() - began}
    errors = _part_errors(assessments)
    for name, assessment in before.items():
        change = changes(assessment.errors.overall(), assessments[name].errors.overall())
        what = "forgetting" if name == "replay" else "fine-tuning"
        reporter.info(f"{what}, on {assessment.n_frames} {PARTS[name]} structures not trained on: {change}")
    metrics: dict[str, Any] = {}
    for e in errors:
        if e.frames == "all":
            metrics.setdefault(e.part, {})[f"{e.quantity}_rmse"] = e.rmse
            metrics[e.part][f"{e.quantity}_mae"] = e.mae
    first = potentials[0]
    info = ModelInfo(
        elements=first.elements,
        calc_modes=first.modes,
        training_data=store.hash,
        metrics=metrics,
        notes=tuple(filter(None, [smoothness_note(first)])),
    )
    for potential in potentials:
        merge_low_rank(potential)
        potential.requires_grad_()
        for m, mode in enumerate(potential.modes):
            potential.set_reference_energies(job.references[mode], m)
    model, report = settings.out / MODEL_FILE, settings.out / REPORT_FILE
    Model([potential.double() for potential in potentials], info, surroundings=job.surroundings()).save(model)
    if settings.write_report:
        _write_report(settings, store, assessments, results, seconds, report)
    if results[-1].stopped == "time":
        reporter.warn(
            f"time was up after {results[-1].epochs} of {settings.epochs} epochs, before the learning rate had fallen: "
            "run the same command again to go on, or set fewer epochs"
        )
    reporter.info(f"model: {model.resolve()}")
    if settings.write_report:
        reporter.info(f"report: {report.resolve()}")
    last = results[-1]
    return TrainResult(
        model=model,
        report=report,
        stopped=last.stopped,
        epochs=last.epochs,
        best_epoch=last.best_epoch,
        seconds=sum(r.seconds for r in results),
        errors=errors,
        before=_part_errors(before),
    )


def _part_errors(assessments: dict[str, Assessment]) -> list[PartError]:
    """Errors of each part of the data: of all frames, by the force limit, by calc mode."""
    return [
        PartError(part=name, quantity=r["quantity"], frames=r["name"] or "all", unit=r["unit"], mae=r["mae"],
                  rmse=r["rmse"], max=r["max"])
        for name, assessment in assessments.items()
        for r in assessment.errors.rows()
        if r["subset"] in ("all", "limit", "mode") and r["unit"] != "GPa"
    ]  # fmt: skip


def _assess(
    settings: TrainTaskSettings,
    store: Store,
    potentials: list[TrainablePotential],
    examples: GraphExamples | LinearisedExamples,
    name: str,
    reporter: Reporter,
) -> Assessment:
    """Errors of the mean of the members, or of their heads, on one part of the data."""
    from rutile.train.assess import Assessment, compare_examples
    from rutile.train.parallel import team

    device = team().place(settings.device)
    for potential in potentials:
        potential.to(device)
    assessment = Assessment(WORST, settings.report_force_limit)
    for compared in compare_examples(potentials, store, examples, f"errors on {PARTS[name]} structures", reporter):
        assessment.add(compared)
    return assessment


def _write_report(
    settings: TrainTaskSettings,
    store: Store,
    assessments: dict[str, Assessment],
    results: list[FitResult],
    seconds: dict[str, float],
    path: Path,
) -> None:
    from rutile.train import sections
    from rutile.train.report import render

    shown = assessments.get("valid", assessments["train"])
    history = results[-1].history
    parts = [sections.curves_section(history), sections.parity_section(shown), sections.residuals_section(shown)]
    parts += [
        sections.errors_section(a.errors.rows(), f"Errors on {PARTS[name]} structures")
        for name, a in reversed(assessments.items())
    ]
    for name in dict.fromkeys(["valid" if "valid" in assessments else "train", "train"]):
        parts.append(sections.worst_section(assessments[name].worst, f"Worst {PARTS[name]} structures"))
    parts += filter(None, [sections.calibration_section(shown)])
    parts += [sections.schedule_section(history), sections.timings_section(history, seconds)]
    parts.append(sections.settings_section({"Settings": settings.model_dump(mode="json")}))
    names = ", ".join(symbol(z) for z in store.elements)
    subtitle = f"{names}; {len(store)} frames of {', '.join(p.name for p in settings.data)}"
    page = render("Training", subtitle, sections.cards(shown.errors.rows()), parts)
    write_atomically(path, page.encode())


def _yaml(settings: TrainTaskSettings) -> str:
    import yaml

    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


TASK = Task(
    "train",
    TrainTaskSettings,
    TrainResult,
    run,
    positional="data",
    examples=(
        "rutile train frames.extxyz",
        "rutile train job.yaml epochs=200 out=run2",
        "rutile train data=a.extxyz split.valid_files=b.extxyz potential.table=tio2_artrith_urban_2016 members=4",
        "rutile train data=new.extxyz start_from=run/model.rutile out=run3",
    ),
)
