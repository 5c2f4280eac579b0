"""`rutile adapt`: search, label and train at the same time, until potential and labeler agree on what is lowest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from rutile.active.plan import CommitteeSettings, Retraining, WarmRetraining
from rutile.core.describe import units_of
from rutile.core.errors import LabelError, SettingsError
from rutile.core.executors.settings import StationSettings
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.lock import alone_in
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import GPA, Angstrom3PerAtom, EVPerAngstrom, EVPerAtom, GigaPascal
from rutile.data.settings import ReadSettings
from rutile.label.settings import EngineSettings
from rutile.potentials.settings.stored import MODEL_FILE
from rutile.search.adaptive_settings import AdaptiveSettings
from rutile.search.settings import BETWEEN, ClusterSearch, CrystalSearch, GeneticSettings
from rutile.simulate.settings import RelaxSettings
from rutile.tasks.property import PropertyResult, as_csv, part, write_result
from rutile.tasks.search_start import ADAPT_LOG, require_own
from rutile.tasks.search_start import LOG as SEARCH_LOG
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rutile.core.executors.stations import Stations
    from rutile.search.adaptive import Adaptive
    from rutile.search.adaptive_log import AdaptiveLog
    from rutile.search.breeding import Problem

INITIAL, VERSIONS = "initial.extxyz", "versions.csv"
MOVE = 0.4
"""Longest move of an atom in one step (Angstrom)."""


class AdaptSettings(AdaptiveSettings, GeneticSettings):
    """What to search for, who labels, and what is taught."""

    formula: str = ""
    """Of crystals the formula unit, such as TiO2; of clusters all atoms, such as Cu38; nothing where molecules are
    given (structure.molecules)."""
    engine: EngineSettings
    """What computes the labels; `name` chooses."""
    structure: Annotated[CrystalSearch | ClusterSearch, Field(discriminator="name")] = CrystalSearch()
    """Crystals or clusters (structure=cluster)."""
    initial: list[Path] = []
    """Files with labelled structures to begin with, besides the `begin` random ones."""
    read: ReadSettings = ReadSettings()
    """How to read them."""
    committee: CommitteeSettings = CommitteeSettings()
    """The committee and its training."""
    retrain: Retraining = WarmRetraining()
    """How a version follows from the one before; `name` chooses: warm, anew."""
    fmax: EVPerAngstrom = Field(default=0.05, gt=0)
    """Relaxed when no atom feels a larger force than this."""
    smax: GigaPascal = Field(default=0.3, gt=0)
    """Relaxed when no stress component differs more than this from the pressure; as `fmax`."""
    max_steps: int = Field(default=200, ge=1)
    """Steps of a relaxation at most."""
    final_steps: int = Field(default=25, ge=0)
    """Labels for the relaxation of each final structure, at most; 0: none is relaxed."""
    final_fmax: EVPerAngstrom = Field(default=0.03, gt=0)
    """Limit of the forces of final structures."""
    at_once: bool = True
    """Search, label and train at the same time. False: in turns, which gives the same search every time."""
    search: StationSettings = StationSettings()
    """Who relaxes structures on the potential."""
    label: StationSettings = StationSettings()
    """Who labels."""
    train: StationSettings = StationSettings()
    """Who trains: one at a time."""
    self_check: bool = True
    """See first that the engine's forces are derivatives of its energy, as `rutile label` does."""
    cache: Path | None = None
    """Folder in which every label is kept as it is done; several searches may share it. Default: `labels` in `out`."""
    keep: int = Field(default=20, ge=1)
    """Different structures in the table at most."""
    seed: int = Field(default=0, ge=0)
    """Of all random numbers."""
    precision: Literal["float32", "float64"] = "float64"
    """Precision of the arithmetic of the search; that of the training is the committee's."""
    device: str = "cpu"
    """Where structures are relaxed: cpu, cuda, cuda:1, or auto: a GPU if there is one."""
    out: Path = Path("adapt")
    """Folder for adapt.jsonl (all that happened), a folder for each version, table.csv, versions.csv, best.extxyz,
    model.rutile (the newest), report.html (rewritten now and then) and result.json. What is there is gone on
    with."""


class AdaptRow(Result):
    """One of the different structures that were labelled."""

    structure: int
    """Its number in the search."""
    energy: EVPerAtom
    """Label: energy, or enthalpy under pressure."""
    above: EVPerAtom
    """Above the lowest label."""
    potential: EVPerAtom | None
    """By the newest version, of the structure before the labeler relaxed it."""
    relaxed: bool
    """Whether the labeler relaxed it further."""
    symmetry: str
    """Of crystals the space group, of clusters the point group."""
    name: str
    """Structure type of that symmetry, such as rutile."""
    atoms: int
    """In the cell."""
    volume: Angstrom3PerAtom | None
    """Of crystals."""
    label: int
    """Number of the label."""
    why: str
    """Why it was labelled: first, best, disputed."""
    version: int | None
    """That found it."""
    operator: str
    """What made it."""
    parents: str
    """Numbers of the structures that it was made from."""


class VersionRow(Result):
    """One version of the potential."""

    version: int
    """Number."""
    start: int | None
    """Version that it went on from; null: new weights."""
    learned: int
    """New labels that it learned."""
    frames: int
    """Structures it was trained on."""
    old_energy_before: EVPerAtom | None
    """RMSE on structures learned before, by the version before."""
    old_energy: EVPerAtom | None
    """The same by this version."""
    old_force_before: EVPerAngstrom | None
    """RMSE of force components on structures learned before, by the version before."""
    old_force: EVPerAngstrom | None
    """The same by this version."""
    new_energy_before: EVPerAtom | None
    """RMSE on new structures by the version before, which had not seen them."""
    new_energy: EVPerAtom | None
    """The same by this version."""
    new_force_before: EVPerAngstrom | None
    """RMSE of force components on new structures, by the version before."""
    new_force: EVPerAngstrom | None
    """The same by this version."""
    correlation: float | None
    """Spearman's rank correlation of its energies and the labels of low structures (dimensionless)."""
    lowest: EVPerAtom | None
    """Lowest label when it came."""
    relaxed: int
    """Relaxations with it."""
    asked: int
    """Labels of structures that it found."""
    rejected: str
    """Why it was kept out, or ""."""


class AdaptResult(PropertyResult):
    """What an adaptive search found."""

    ended: str
    """Why it ended."""
    labels: int
    """Calculations of the labeler in all, those for final structures with them."""
    label_failures: int
    """Structures without a label."""
    relaxations: int
    """On the potential, repeated ones with them."""
    relaxation_failures: int
    """Of those, that could not be used."""
    made: int
    """Different structures that were made."""
    structures: list[AdaptRow]
    """Different labelled structures, lowest first."""
    versions: list[VersionRow]
    """Of the potential."""
    best: Path
    """Those structures, in the same order, with their labels."""
    labelled: Path
    """All labels."""
    model: Path
    """The newest version."""


def run(settings: AdaptSettings, reporter: Reporter) -> AdaptResult:
    """Search for structures of low energy by a potential that learns the labels of what is found meanwhile.

    Adaptive genetic algorithm: search, labels and training at the same time. Stop it at any time; the same command
    goes on.
    """
    from rutile.label.work import close_all
    from rutile.search.adaptive_driver import drive
    from rutile.search.adaptive_log import AdaptiveLog
    from rutile.tasks.adapt_check import check_engine
    from rutile.tasks.adapt_results import Told

    with folder_for_results(settings.out), alone_in(settings.out, reporter):
        require_own(settings.out, SEARCH_LOG)
        version, mode = _engine(settings)
        given = _initial(settings, mode, reporter)
        adaptive = _adaptive(settings, given)
        log = AdaptiveLog(settings.out / ADAPT_LOG, _identity(settings, mode), _identity(settings, mode, unusual=True))
        if events := log.replay(adaptive):
            reporter.info(f"going on: {adaptive.answered} labels and {adaptive.relaxed} relaxations are in {log.path}")
        check_engine(settings, adaptive, version, reporter)
        told = Told(settings, adaptive, reporter, known=events)
        try:
            with _stations(settings, version, reporter) as stations:
                drive(adaptive, stations, log, told)
        finally:
            close_all()
        return finish(settings, adaptive, log, reporter)


def _engine(settings: AdaptSettings) -> tuple[str, str]:
    """Version of the engine, and the name of its reference method; the engine is there."""
    from rutile.label.campaign import mode_of
    from rutile.label.catalogue import make

    elements = frozenset(_problem(settings).elements)
    labeler = make(settings.engine)
    try:
        version = labeler.probe(elements)
    finally:
        labeler.close()
    return version, mode_of(settings.engine, version)


def _initial(settings: AdaptSettings, mode: str, reporter: Reporter) -> Path | None:
    """The labelled structures to begin with, in one file."""
    from rutile.structures.io import write_frames
    from rutile.tasks.committee_training import given_frames

    if not settings.initial:
        if not settings.begin:
            raise SettingsError("begin=0 and no initial=...: there is nothing to learn first; give one of them")
        return None
    frames = given_frames(settings.initial, settings.read, mode, settings.begin > 0, reporter, "initial")
    path = settings.out / INITIAL
    write_frames(path, frames)  # as before, or `_identity` tells
    return path


def _adaptive(settings: AdaptSettings, given: Path | None) -> Adaptive:
    """The search, fresh."""
    from rutile.search.adaptive import Adaptive
    from rutile.search.adaptive_work import Guarded
    from rutile.tasks.search import check_of

    problem, how = _problem(settings), part(settings, AdaptiveSettings)
    if not settings.final_steps:
        how = how.model_copy(update={"final": 0})
    guard = Guarded(settings.ask.closest, check_of(problem, settings.structure))
    genetic = part(settings, GeneticSettings)
    return Adaptive(problem, how, genetic, settings.seed, given=given is not None, guard=guard)


def _problem(settings: AdaptSettings) -> Problem:
    """What is searched for."""
    from rutile.tasks.search import problem_of

    if BETWEEN in settings.formula:
        raise SettingsError(f"formula={settings.formula}: variable composition is for `rutile search`; give one")
    return problem_of(settings.formula, settings.structure)


def _identity(settings: AdaptSettings, mode: str, *, unusual: bool = False) -> dict[str, Any]:
    """What decides about the search, or the part that is no default; how long it takes and who works does not."""
    import hashlib

    known = settings.model_dump(mode="json", exclude_defaults=unusual)
    names = ("formula", "structure", "begin", "seed", "precision")
    engine = {k: v for k, v in settings.engine.identity().items() if k != "pseudo_dir"} | {"calc_mode": mode}
    include = {"potential", "members", "diversity"}
    committee = settings.committee.model_dump(mode="json", include=include, exclude_defaults=unusual)
    begun = settings.out / INITIAL
    content = hashlib.sha256(begun.read_bytes()).hexdigest()[:16] if settings.initial else ""
    return {n: known[n] for n in names if n in known} | {"engine": engine, "committee": committee, "initial": content}


def labels_in(settings: AdaptSettings) -> Path:
    """Folder in which every label is kept."""
    return (settings.cache or settings.out / "labels").resolve()


def _pressure(settings: AdaptSettings) -> float:
    """eV/Angstrom^3."""
    return settings.structure.pressure * GPA if isinstance(settings.structure, CrystalSearch) else 0.0


def _stations(settings: AdaptSettings, version: str, reporter: Reporter) -> AbstractContextManager[Stations]:
    """Those who do the work."""
    from contextlib import closing

    from rutile.core.executors.catalogue import open_stations
    from rutile.search.adaptive_driver import Serial
    from rutile.search.adaptive_work import Asker, Ending, Scorer
    from rutile.tasks.adapt_train import Teacher

    crystal, pressure = isinstance(settings.structure, CrystalSearch), _pressure(settings)
    how = RelaxSettings(
        fmax=settings.fmax, smax=settings.smax, max_steps=settings.max_steps, max_move=MOVE,
        cell="full" if crystal else "none", pressure=pressure / GPA,
    )  # fmt: skip
    cache = labels_in(settings)
    folder, ending = settings.out.resolve(), Ending(settings.final_steps, settings.final_fmax, crystal)
    work: dict[str, Any] = {
        "search": Scorer(folder, settings.precision, settings.device, how),
        "label": Asker(settings.engine, version, cache, pressure, ending),
        "train": Teacher(
            folder, settings.committee, settings.retrain, folder / INITIAL if settings.initial else None,
            settings.seed, pressure,
        ),
    }  # fmt: skip
    if not settings.at_once:
        return closing(Serial(work, {"label": settings.ask.per_version}))
    who = {"search": settings.search, "label": settings.label, "train": settings.train}
    return open_stations({k: (work[k], who[k].executor, who[k].workers) for k in work}, reporter)


def finish(settings: AdaptSettings, adaptive: Adaptive, log: AdaptiveLog, reporter: Reporter) -> AdaptResult:
    """The files and the result.

    Raises:
        LabelError: nothing was labelled, or nothing could be learned.
    """
    from rutile.structures.io import write_frames
    from rutile.tasks.adapt_page import page
    from rutile.tasks.adapt_results import frames_of, labelled, rows_of, version_rows

    found = rows_of(settings, adaptive)
    if not found or adaptive.version is None:
        raise LabelError(f"the search ended without a result: {adaptive.ended or 'no work was left'}")
    rows, versions = [row for row, _ in found], version_rows(adaptive)
    result = AdaptResult(
        ended=adaptive.ended, labels=adaptive.cost, label_failures=adaptive.answered - len(labelled(adaptive)),
        relaxations=adaptive.relaxed, relaxation_failures=adaptive.failed, made=adaptive.search.made,
        structures=rows, versions=versions, best=settings.out / "best.extxyz",
        labelled=settings.out / "labelled.extxyz", model=settings.out / MODEL_FILE,
    )  # fmt: skip
    write_frames(result.best, frames_of(found))
    write_frames(result.labelled, labelled(adaptive))
    write_atomically(result.model, (settings.out / adaptive.version.trained.model).read_bytes())
    write_atomically(settings.out / VERSIONS, as_csv(versions))
    text = page(settings, adaptive, found, log.path)
    reporter.info(f"report: {(settings.out / 'report.html').resolve()}")
    return write_result(settings.out, result, rows, text, {VERSIONS: units_of(VersionRow)})


TASK = Task(
    "adapt",
    AdaptSettings,
    AdaptResult,
    run,
    positional="formula",
    examples=(
        "rutile adapt plans/tio2_adaptive.yaml",
        "rutile adapt TiO2 engine=rigid_ion structure.units=[2,4] stop.labels=150",
        "rutile adapt plans/silicon_adaptive_gpaw.yaml engine.python=gpaw/bin/python label.workers=2",
        "rutile adapt plan.yaml search.executor=slurm search.workers=4 label.executor=slurm label.workers=20",
    ),
    elsewhere={
        "engine": "label", "executor": "label", "potential": "train", "optimizer": "train", "schedule": "train",
        "loss": "train", "reweight": "train", "read": "train", "references": "train",
    },
)  # fmt: skip
