"""`rutile train`: from labelled structures to a potential in one file, with its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import Field

from rutile.core.elements import symbol
from rutile.core.errors import LabelError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter, SilentReporter
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
    from rutile.train.start import Energies

    Sides = dict[str, GraphExamples] | dict[str, LinearisedExamples]

STORE, CACHE, SETTINGS_FILE, REPORT_FILE = "store", "cache", "settings.yaml", "report.html"
PARTS = {"train": "training", "valid": "validation", "test": "test", "replay": "replayed"}


class TrainTaskSettings(TrainSettings):
    """What to train on what."""

    ALIASES: ClassVar[dict[str, str]] = {"architecture": "potential.name", "modes": "read.modes"}

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
    scaling and reference energies are kept. New elements and reference methods are added to it."""
    replay: list[Path] = []
    """Files with old data that are trained on beside the new, so that the model does not forget them; errors on some
    old structures that are not trained on are measured before and after."""
    replay_fraction: float = Field(default=0.5, gt=0, lt=1)
    """Fraction of the training structures that are replayed ones, chosen at random; at most as many as there are."""
    freeze: list[str] = []
    """Parameters that are not trained, by name or pattern such as "embedding.*"."""
    lora_rank: int | None = Field(default=None, ge=1)
    """Train updates of so low a rank instead of the matrices (LoRA); vectors are trained unless they are frozen."""
    mode_balance: float = Field(default=1.0, ge=0, le=1)
    """Weight of a reference method of n structures: n to this power. 1: all structures count alike; 0: all methods
    do; 0.5: the usual compromise for data sets of very different sizes."""
    resume: bool = True
    """Go on from the checkpoint in `out`, if there is one; refused if settings or data have changed."""
    members: int = Field(default=1, ge=1)
    """Train a committee of so many potentials that differ in their first weights and the order of the structures."""
    report_force_limit: EVPerAngstrom | None = Field(default=None, gt=0)
    """Report errors of frames with all reference forces |F| below this apart from the others."""

    @classmethod
    def suited(cls, data: Any) -> Any:
        """Epochs, learning rate and the like that are not given are those that suit the potential."""
        potential = data.get("potential") if isinstance(data, dict) else None
        name = potential.get("name") if isinstance(potential, dict) else getattr(potential, "name", None)
        return merged(training_defaults(str(name)), data) if name else data


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
    seconds: float
    """Time in the training loop, all members."""
    errors: list[PartError]
    """MAE, RMSE and maximum on each part of the data."""
    before: list[PartError] = []
    """With start_from: the same before the training, on validation and replayed structures."""


def run(settings: TrainTaskSettings, reporter: Reporter) -> TrainResult:
    """Train a potential on labelled structures; goes on where it stopped when run again."""
    import torch

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with folder_for_results(settings.out):
        return _train(settings, reporter)


def _train(settings: TrainTaskSettings, reporter: Reporter) -> TrainResult:
    """The work of `run`, in a folder that exists."""
    import torch

    from rutile.core.seeds import integer
    from rutile.data.statistics import mode_weights
    from rutile.potentials.checks import smoothness_note
    from rutile.train.examples import DTYPES, make_examples, mode_name
    from rutile.train.signals import remember_signals
    from rutile.train.start import adapt

    store = _read(settings, reporter)
    sides = _divide(store, settings, reporter)
    seeds = [settings.seed if m == 0 else integer(settings.seed, "member", m) % 2**31 for m in range(settings.members)]
    potentials, references, scale = _potentials(settings, store, sides["train"], seeds, reporter)
    if note := smoothness_note(potentials[0]):
        reporter.warn(note)
    for potential in potentials:
        potential.set_reference_energies(dict.fromkeys(potential.elements, 0.0))
    examples = make_examples(
        store,
        sides,
        potentials[0],
        references={mode: references[mode_name(potentials[0].modes, mode)] for mode in store.calc_modes},
        dtype=DTYPES[settings.precision],
        folder=settings.out / CACHE,
        memory=settings.cache_memory,
        reporter=reporter,
    )
    if settings.mode_balance != 1:
        examples["train"].weights *= torch.from_numpy(mode_weights(store, sides["train"], settings.mode_balance))
    before: dict[str, Assessment] = {}
    if scale is not None:
        _scale(potentials, examples["train"], scale)
    else:
        for potential in potentials:
            potential.to(DTYPES[settings.precision])
        looked_at = {name: examples[name] for name in ("valid", "replay") if name in examples}
        before = {n: _assess(settings, store, potentials, side, n, reporter) for n, side in looked_at.items()}
    for potential, seed in zip(potentials, seeds, strict=True):
        told = reporter if potential is potentials[0] else SilentReporter()
        adapt(potential, settings.freeze, settings.lora_rank, seed, told)
    with remember_signals() as stop:
        results = _fit_all(settings, store, potentials, seeds, examples, reporter, stop)
        stopped = results[-1].stopped
        done = potentials[: len(results)]
        result = _finish(settings, store, done, examples, references, results, before, reporter)
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
        ModeError: some frames name their calc mode and others do not.
    """
    import shutil

    from rutile.data.reading import read_frames
    from rutile.data.store import Store, build_store
    from rutile.train.start import check_modes

    folder = settings.out / STORE
    if folder.exists():
        Store.open(folder)  # refuses to remove what is no store
        shutil.rmtree(folder)
    extra = (*settings.split.valid_files, *settings.split.test_files)
    paths = list(dict.fromkeys([*settings.data, *extra, *settings.replay]))
    store = build_store(read_frames(paths, settings.read, reporter), folder, reporter)
    check_modes(store)
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

    from rutile.data.split import from_files, split
    from rutile.train.start import replay

    if settings.replay:
        old = from_files(store, settings.replay)
        sides = split(store, settings.split, settings.seed, reporter, old)
        sides = replay(store, sides, old, settings.replay_fraction, settings.seed, reporter)
    else:
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
) -> tuple[list[TrainablePotential], Energies, float | None]:
    """The members, the reference energies, and the energy scale (None for those of a loaded model)."""
    import numpy as np

    from rutile.data.statistics import references_by_mode, statistics
    from rutile.potentials.catalogue import make
    from rutile.train.start import loaded, say_statistics

    if settings.start_from is not None:
        return *loaded(settings.start_from, store, train, seeds, settings.references, reporter), None
    references = references_by_mode(store, train, settings.references, reporter)
    s = statistics(store, train, references)
    say_statistics(s, "training data", reporter)
    if len(store.calc_modes) > 1:
        of = store.array("mode")[train]
        for m, mode in enumerate(store.calc_modes):
            say_statistics(statistics(store, train[of == m], references), f"calc mode {mode}", reporter)
    scale = float(np.nanmax([s.energy_std, 0.1 * s.force_rms, 1e-3]))  # eV per atom; forces over 0.1 Angstrom
    return [make(settings.potential, store.elements, seed, store.calc_modes) for seed in seeds], references, scale


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
    tuned = {"replay", "replay_fraction", "freeze", "lora_rank", "mode_balance"}
    own |= settings.model_dump(mode="json", include=tuned, exclude_defaults=True)
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
    references: Energies,
    results: list[FitResult],
    before: dict[str, Assessment],
    reporter: Reporter,
) -> TrainResult:
    """Measure, save the model with its reference energies, write the report, say where everything is."""
    from rutile.potentials.checks import smoothness_note
    from rutile.potentials.model import Model, ModelInfo
    from rutile.potentials.parts.lora import merge_low_rank
    from rutile.potentials.save import MODEL_FILE
    from rutile.train.start import changes

    assessments = {name: _assess(settings, store, potentials, side, name, reporter) for name, side in examples.items()}
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
            potential.set_reference_energies(references[mode], m)
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

    assessment = Assessment(force_limit=settings.report_force_limit)
    for compared in compare_examples(potentials, store, examples, f"errors on {PARTS[name]} structures", reporter):
        assessment.add(compared)
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
