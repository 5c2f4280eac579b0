"""`rutile train`: from labelled structures to a potential in one file, with its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import Field, model_validator

from rutile.core.elements import symbol
from rutile.core.errors import LabelError, SettingsError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, merged
from rutile.core.units import EVPerAngstrom
from rutile.data.settings import ReadSettings, ReferenceSettings, SplitSettings
from rutile.potentials.settings import BehlerSettings, PotentialSettings, training_defaults
from rutile.tasks.task import Task
from rutile.train.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np

    from rutile.data.store import Store
    from rutile.potentials.parts.network import TrainablePotential
    from rutile.potentials.potential import DescriptorPotential
    from rutile.train.assess import Assessment
    from rutile.train.examples import GraphExamples, LinearisedExamples
    from rutile.train.fit import FitResult

    Sides = dict[str, GraphExamples] | dict[str, LinearisedExamples]

STORE, CACHE, SETTINGS_FILE, REPORT_FILE = "store", "cache", "settings.yaml", "report.html"
PARTS = {"train": "training", "valid": "validation", "test": "test"}


class TrainTaskSettings(TrainSettings):
    """What to train on what."""

    ALIASES: ClassVar[dict[str, str]] = {"architecture": "potential.name"}

    data: list[Path] = Field(min_length=1)
    """Files with labelled structures."""
    out: Path = Path("run")
    """Folder of the run: model.rutile, report.html, metrics.csv, settings.yaml, checkpoint."""
    potential: PotentialSettings = BehlerSettings()
    """What to train."""
    read: ReadSettings = ReadSettings()
    """How to read the files."""
    split: SplitSettings = SplitSettings()
    """Which structures choose the best weights (validation), and which only measure errors at the end (test)."""
    references: ReferenceSettings = ReferenceSettings()
    """Energies of the isolated atoms."""
    start_from: Path | None = None
    """Begin with the weights of this model (file, or folder of a run) and a fresh optimizer; its potential settings,
    scaling and reference energies are kept."""
    resume: bool = True
    """Go on from the checkpoint in `out`, if there is one; refused if settings or data have changed."""
    members: int = Field(default=1, ge=1)
    """Train a committee of so many potentials that differ in their first weights and the order of the structures."""
    report_force_limit: EVPerAngstrom | None = Field(default=None, gt=0)
    """Report errors of frames with all reference forces |F| below this apart from the others."""

    @model_validator(mode="before")
    @classmethod
    def _what_suits_the_potential(cls, data: Any) -> Any:
        """Epochs, learning rate and the like that are not given are those that suit the potential."""
        potential = data.get("potential") if isinstance(data, dict) else None
        name = potential.get("name") if isinstance(potential, dict) else getattr(potential, "name", None)
        return merged(training_defaults(str(name)), data) if name else data


class PartError(Result):
    """Errors of one quantity on one part of the data."""

    part: str
    """train, valid or test."""
    quantity: str
    """energy (per atom), force (components), force_vector, stress (components)."""
    frames: str
    """all, or those below and above the force limit."""
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
    seconds: float
    """Time in the training loop, all members."""
    errors: list[PartError]
    """MAE, RMSE and maximum on each part of the data."""


def run(settings: TrainTaskSettings, reporter: Reporter) -> TrainResult:
    """Train a potential on labelled structures; goes on where it stopped when run again."""
    import torch

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with folder_for_results(settings.out):
        return _train(settings, reporter)


def _train(settings: TrainTaskSettings, reporter: Reporter) -> TrainResult:
    """The work of `run`, in a folder that exists."""
    from rutile.core.seeds import integer
    from rutile.potentials.checks import smoothness_note
    from rutile.train.examples import DTYPES, make_examples
    from rutile.train.signals import remember_signals

    store = _read(settings, reporter)
    sides = _divide(store, settings, reporter)
    seeds = [settings.seed if m == 0 else integer(settings.seed, "member", m) % 2**31 for m in range(settings.members)]
    potentials, references, scale = _potentials(settings, store, sides["train"], seeds, reporter)
    if note := smoothness_note(potentials[0]):
        reporter.warn(note)
    for potential in potentials:
        if potential.frozen:
            raise SettingsError(f"this model cannot be trained: {potential.frozen}")
        potential.set_reference_energies(dict.fromkeys(store.elements, 0.0))
    examples = make_examples(
        store,
        sides,
        potentials[0],
        references=references,
        dtype=DTYPES[settings.precision],
        folder=settings.out / CACHE,
        memory=settings.cache_memory,
        reporter=reporter,
    )
    if scale is not None:
        _scale(potentials, examples["train"], scale)
    with remember_signals() as stop:
        results = _fit_all(settings, store, potentials, seeds, examples, reporter, stop)
        stopped = results[-1].stopped
        result = _finish(settings, store, potentials[: len(results)], examples, references, results, reporter)
    if stopped.startswith("SIG"):
        reporter.info(f"stopped by {stopped}; run the same command again to go on from {settings.out}")
        if stopped == "SIGINT":
            raise KeyboardInterrupt
        raise SystemExit(143)
    return result


def _read(settings: TrainTaskSettings, reporter: Reporter) -> Store:
    """The frames of all files as a store in the run's folder.

    Raises:
        LabelError: no frame has a label that the loss asks for.
    """
    import shutil

    from rutile.data.reading import read_frames
    from rutile.data.store import Store, build_store

    folder = settings.out / STORE
    if folder.exists():
        Store.open(folder)  # refuses to remove what is no store
        shutil.rmtree(folder)
    extra = (*settings.split.valid_files, *settings.split.test_files)
    paths = list(dict.fromkeys([*settings.data, *extra]))
    store = build_store(read_frames(paths, settings.read, reporter), folder, reporter)
    _require_labels(store, settings, paths)
    return store


def _require_labels(store: Store, settings: TrainTaskSettings, paths: list[Path]) -> None:
    from rutile.data.checks import require_labels
    from rutile.data.reading import readings

    terms = {"energy": settings.loss.energy, "forces": settings.loss.force, "stress": settings.loss.virial}
    found = {label: int(store.array(f"has_{label}").sum()) for label in terms}
    absent = [label for label, term in terms.items() if term.active and found[label] == 0]
    if not absent:
        return
    keys = next(iter(readings(paths, settings.read))).keys
    wanted = {label: label in absent for label in terms}
    try:
        require_labels(found, len(store), keys, place=", ".join(map(str, paths)), **wanted)
    except LabelError as error:
        names = {"energy": "energy", "forces": "force", "stress": "virial"}
        switch = " ".join(f"loss.{names[label]}.start=0" for label in absent)
        raise LabelError(f"{error}; or train without it: {switch}") from None


def _divide(store: Store, settings: TrainTaskSettings, reporter: Reporter) -> dict[str, np.ndarray]:
    """Frames of each part that has any."""
    import numpy as np

    from rutile.data.split import split

    sides = split(store, settings.split, settings.seed, reporter)
    if settings.force_limit is not None:
        forces, offsets = store.array("forces"), store.array("offsets")
        largest = np.array([np.abs(forces[offsets[k] : offsets[k + 1]]).max() for k in sides["train"]])
        out = sides["train"][largest > settings.force_limit]
        if len(out):
            listed = ", ".join(store.source(int(k)) for k in out)
            reporter.warn(
                f"{len(out)} frames with forces above {settings.force_limit:g} eV/Å are not trained on: {listed}"
            )
        sides["train"] = np.setdiff1d(sides["train"], out)
    return {name: ids for name, ids in sides.items() if len(ids)}


def _potentials(
    settings: TrainTaskSettings, store: Store, train: np.ndarray, seeds: list[int], reporter: Reporter
) -> tuple[list[TrainablePotential], dict[int, float], float | None]:
    """The members, the reference energies, and the energy scale (None for those of a loaded model)."""
    import numpy as np

    from rutile.data.statistics import reference_energies, statistics
    from rutile.potentials.catalogue import make

    if settings.start_from is not None:
        return *_loaded(settings, store, reporter), None
    references = reference_energies(store, train, settings.references, reporter)
    s = statistics(store, train, references)
    names = ", ".join(f"{n} {symbol(z)}" for z, n in s.atoms.items())
    reporter.info(
        f"training data: {s.n_frames} frames, {s.n_atoms} atoms ({names}); {s.n_energy} energies, {s.n_forces} with "
        f"forces, {s.n_stress} with stress; force RMS {s.force_rms:.3g}, largest {s.force_max:.3g} eV/Å"
    )
    scale = float(np.nanmax([s.energy_std, 0.1 * s.force_rms, 1e-3]))  # eV per atom; forces over 0.1 Angstrom
    return [make(settings.potential, store.elements, seed, store.calc_modes) for seed in seeds], references, scale


def _loaded(
    settings: TrainTaskSettings, store: Store, reporter: Reporter
) -> tuple[list[TrainablePotential], dict[int, float]]:
    """Members of a stored model, as many as asked for, and its reference energies."""
    from rutile.core.errors import ElementError
    from rutile.potentials.save import load_model

    assert settings.start_from is not None
    model = load_model(settings.start_from)
    if len(model.potentials) != settings.members:
        raise SettingsError(
            f"{settings.start_from} has {len(model.potentials)} members: say members={len(model.potentials)}"
        )
    potentials: list[Any] = model.potentials
    strange = sorted(set(store.elements) - set(potentials[0].elements))
    if strange:
        raise ElementError(f"{settings.start_from} does not know {', '.join(map(symbol, strange))}: train a new model")
    reporter.info(f"begins with the weights of {settings.start_from}")
    first = potentials[0]
    return potentials, first.reference.by_element()


def _scale(potentials: list[TrainablePotential], train: GraphExamples | LinearisedExamples, scale: float) -> None:
    """Scale descriptors and energies by the statistics of the training set."""
    from rutile.train.examples import LinearisedExamples

    for potential in potentials:
        potential.set_energy_scale(scale)
        if isinstance(train, LinearisedExamples):
            cast("DescriptorPotential", potential).fit_scaling(train.descriptors())
        else:
            potential.learn_statistics(train.graphs())


def _fit_all(
    settings: TrainTaskSettings,
    store: Store,
    potentials: list[TrainablePotential],
    seeds: list[int],
    examples: Sides,
    reporter: Reporter,
    stop: Callable[[], str | None],
) -> list[FitResult]:
    """Train each member; ends early, with the members so far, when asked to stop."""
    from rutile.train.checkpoint import CHECKPOINT_FILE
    from rutile.train.fit import fit

    fields = {name: getattr(settings, name) for name in TrainSettings.model_fields}
    own = settings.model_dump(mode="json", include={"potential", "split", "references", "start_from"})
    results: list[FitResult] = []
    for m, (potential, seed) in enumerate(zip(potentials, seeds, strict=True)):
        folder = settings.out / f"member-{m + 1}" if len(potentials) > 1 else settings.out
        folder.mkdir(exist_ok=True)
        resume = settings.resume and (folder / CHECKPOINT_FILE).exists()
        if resume:
            reporter.info(f"going on from {folder / CHECKPOINT_FILE}")
        elif m == 0:
            write_atomically(settings.out / SETTINGS_FILE, _yaml(settings).encode())
        for side in examples.values():
            side.potential = potential
        train = examples["train"]
        results.append(
            fit(
                potential,
                train,
                examples.get("valid", train),
                TrainSettings(**(fields | {"seed": seed})),
                folder,
                reporter,
                resume=resume,
                identity=own | {"data": store.hash},
                stop=stop,
            )
        )
        if results[-1].stopped.startswith("SIG"):
            break
    return results


def _finish(
    settings: TrainTaskSettings,
    store: Store,
    potentials: list[TrainablePotential],
    examples: Sides,
    references: dict[int, float],
    results: list[FitResult],
    reporter: Reporter,
) -> TrainResult:
    """Measure, save the model with its reference energies, write the report, say where everything is."""
    from rutile.potentials.checks import smoothness_note
    from rutile.potentials.model import Model, ModelInfo
    from rutile.potentials.save import MODEL_FILE

    assessments = {name: _assess(settings, store, potentials, side, name, reporter) for name, side in examples.items()}
    errors = [
        PartError(part=name, quantity=r["quantity"], frames=r["name"] or "all", unit=r["unit"], mae=r["mae"],
                  rmse=r["rmse"], max=r["max"])
        for name, assessment in assessments.items()
        for r in assessment.errors.rows()
        if r["subset"] in ("all", "limit") and r["unit"] != "GPa"
    ]  # fmt: skip
    metrics: dict[str, Any] = {}
    for e in errors:
        if e.frames == "all":
            metrics.setdefault(e.part, {})[f"{e.quantity}_rmse"] = e.rmse
            metrics[e.part][f"{e.quantity}_mae"] = e.mae
    info = ModelInfo(
        elements=store.elements,
        calc_modes=store.calc_modes,
        training_data=store.hash,
        metrics=metrics,
        notes=tuple(filter(None, [smoothness_note(potentials[0])])),
    )
    for potential in potentials:
        potential.set_reference_energies(references)
    model, report = settings.out / MODEL_FILE, settings.out / REPORT_FILE
    Model([potential.double() for potential in potentials], info).save(model)
    _write_report(settings, store, assessments, results, report)
    if results[-1].stopped == "time":
        reporter.warn(
            f"time was up after {results[-1].epochs} of {settings.epochs} epochs, before the learning rate had fallen: "
            "run the same command again to go on, or set fewer epochs"
        )
    reporter.info(f"model: {model.resolve()}")
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
    )


def _assess(
    settings: TrainTaskSettings,
    store: Store,
    potentials: list[TrainablePotential],
    examples: GraphExamples | LinearisedExamples,
    name: str,
    reporter: Reporter,
) -> Assessment:
    """Errors of the members' mean on one part of the data."""
    import dataclasses

    import numpy as np
    import torch

    from rutile.potentials.combine import mean, spread
    from rutile.train.assess import Assessment, Compared

    assessment = Assessment(force_limit=settings.report_force_limit)
    batches = np.split(np.arange(len(examples)), range(64, len(examples), 64))
    for ids in reporter.track(batches, f"errors on {PARTS[name]} structures", len(batches)):
        labelled, predictions = None, []
        for potential in potentials:
            examples.potential = potential
            labelled, predict = examples.batch(ids)
            predictions.append(predict(False))
        assert labelled is not None
        labelled = dataclasses.replace(labelled, index=torch.from_numpy(ids))
        frames = [store[int(k)] for k in examples.ids[ids]]
        committee = spread(predictions) if len(predictions) > 1 else None
        assessment.add(Compared(frames, labelled, mean(predictions), committee))
    return assessment


def _write_report(
    settings: TrainTaskSettings,
    store: Store,
    assessments: dict[str, Assessment],
    results: list[FitResult],
    path: Path,
) -> None:
    from rutile.train import sections
    from rutile.train.report import render

    shown = assessments.get("valid", assessments["train"])
    parts = [sections.curves_section(results[-1].history), sections.parity_section(shown)]
    parts += [
        sections.errors_section(a.errors.rows(), f"Errors on {PARTS[name]} structures")
        for name, a in reversed(assessments.items())
    ]
    parts.append(sections.worst_section(shown.worst))
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
