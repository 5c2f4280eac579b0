"""`rutile demo`: the main job on real data, from reference calculations to relaxed crystals, in one command.

Made of the other tasks: the TiO2 starter set -> inspect -> train a Behler-Parrinello potential with the published table
of 70 symmetry functions -> evaluate on held-out structures -> relax the polymorphs -> a short adaptive search ->
one HTML page.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import Field

from rutile.core.errors import SettingsError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.core.units import Angstrom, EVPerAngstrom, GigaPascal, MilliElectronVolt, MilliEVPerAtom, Percent, Second
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms

    from rutile.starter import Polymorph
    from rutile.tasks.evaluate import EvaluateSettings
    from rutile.tasks.train import TrainResult, TrainTaskSettings
    from rutile.train.report import Section

TABLE = "tio2_artrith_urban_2016"
PARTS = {"train": 0.75, "valid": 0.1, "test": 0.15}
"""Share of each part; steps of a DFT relaxation resemble each other and all go to the training part."""
LARGE = 5.0
"""Held-out frames with a larger force than this (eV/Angstrom) are also reported apart: a few of them carry most of the
RMSE."""
HUGE = 30.0
"""Frames with a larger force (eV/Angstrom) are not trained on: a few pairs of atoms rattled nearly into one another."""
EXPANSION = 1.02
"""The potential's relaxations begin from the DFT's minima with all lengths multiplied by this. Like the DFT's own, they
keep the symmetry: expanded crystals have it, and forces that have it do not break it."""


class HasFolder(Protocol):
    """A job with a folder for its results."""

    @property
    def out(self) -> Path:
        """The folder."""
        ...


Job = TypeVar("Job", bound=HasFolder)
Done = TypeVar("Done")


class DemoSettings(Settings):
    """What of the demo can be changed."""

    out: Path = Path("demo")
    """Folder for everything: data, training run, report.html. Run again with the same folder to train further."""
    starter: Path | None = None
    """Folder with another set made by scripts/tio2_starter.py collect. Default: the set that ships with rutile."""
    epochs: int = Field(default=800, ge=1)
    """Passes over the training structures."""
    seconds: Second = Field(default=270.0, gt=0)
    """Stop training after this long, whatever the epochs."""
    hidden: tuple[int, ...] = (30, 30)
    """Widths of the hidden layers of each element's network."""
    labels: int = Field(default=100, ge=0)
    """Labels of the adaptive search at the end; 0: none is made."""
    seed: int = 0
    """Seed of weights, batches and the choice of held-out structures."""


class RelaxedPolymorph(Result):
    """A polymorph relaxed with the potential beside the DFT's own relaxation."""

    name: str
    """Such as "anatase"."""
    dft: MilliElectronVolt
    """Energy above the DFT's lowest polymorph (meV per formula unit)."""
    ours: MilliElectronVolt | None
    """The same by the potential, above the potential's lowest polymorph (meV per formula unit)."""
    abc_dft: tuple[Angstrom, Angstrom, Angstrom]
    """Lattice constants of the conventional cell by DFT (Å)."""
    abc: tuple[Angstrom, Angstrom, Angstrom] | None
    """The same by the potential (Å)."""
    volume: Percent | None
    """Difference of the volume."""
    group: str
    """Space group after the relaxation with the potential; "" where that failed."""


class DemoResult(Result):
    """How good the potential is, and where the page is."""

    energy_rmse: MilliEVPerAtom
    """On held-out structures with forces below 5 eV/Å; the report has the others beside them."""
    force_rmse: EVPerAngstrom
    """On the same structures, of components."""
    stress_rmse: GigaPascal
    """On the same structures, of components."""
    polymorphs: list[RelaxedPolymorph]
    """Lowest DFT energy first."""
    found: list[str]
    """Structure types that the adaptive search found, lowest first."""
    model: Path
    """The potential."""
    report: Path
    """Open this page."""


def run(settings: DemoSettings, reporter: Reporter) -> DemoResult:
    """Train a TiO2 potential on real DFT data, check it, relax the polymorphs with it, and write one report."""
    with folder_for_results(settings.out):
        return _demo(settings, reporter)


def _demo(settings: DemoSettings, reporter: Reporter) -> DemoResult:
    """The work of `run`, in a folder that exists."""
    from rutile import starter
    from rutile.tasks import adapt, evaluate, inspect, train
    from rutile.tasks.demo_adapt import adapt_section, adapt_settings, named
    from rutile.tasks.demo_record import Diary
    from rutile.train.sections import dimers_section

    diary = Diary(settings.out)
    reporter.info(f"1/6 the starter set: {starter.path(folder=settings.starter)}")
    files = write_parts(settings)
    census = inspect.run(inspect.InspectSettings(files=[starter.path(folder=settings.starter)]), reporter)
    reporter.info(f"2/6 training a Behler-Parrinello potential, at most {settings.seconds:g} s")
    trained = run_or_begin_anew(train.run, train_settings(settings, files), reporter)
    diary.did("train", train_settings(settings, files), trained, ["run"], "run/metrics.csv")
    reporter.info("3/6 evaluating it on structures that it has not seen")
    assessed = evaluate_settings(settings, files)
    assessment = evaluate.assess_to_tables(assessed, settings.out, reporter)
    dimers = evaluate.dimer_curves(assessed)
    known = evaluate.result_of(assessment, assessed.device, settings.out / "report.html")
    diary.did("evaluate", assessed, known, ["report.html", "frames.csv", "parity.csv"])
    reporter.info("4/6 relaxing the polymorphs with it")
    references = starter.dft_polymorphs(settings.starter)
    found = relax_polymorphs(references, trained.model, reporter)
    polymorphs = beside(references, found)
    searched = None
    diary.goes_on()
    if settings.labels:
        reporter.info(f"5/6 searching for crystals of TiO2 while a potential learns them, {settings.labels} labels")
        job = adapt_settings(settings.out / "adapt", settings.labels, settings.seed)
        searched = run_or_begin_anew(adapt.run, job, reporter)
        diary.did("adapt", job, searched, ["adapt"])
    reporter.info("6/6 writing the report")
    rows = {(r["quantity"], r["unit"]): r for r in assessment.errors.rows() if r["name"].startswith("max |F| <")}
    result = DemoResult(
        energy_rmse=1000 * rows["energy", "eV/atom"]["rmse"],
        force_rmse=rows["force", "eV/Å"]["rmse"],
        stress_rmse=rows["stress", "GPa"]["rmse"],
        polymorphs=polymorphs,
        found=named(searched) if searched else [],
        model=trained.model,
        report=known.report,
    )
    sections = [
        polymorph_section(polymorphs),
        *([adapt_section(searched)] if searched else []),
        *evaluate.model_sections(trained.model.parent),
        *evaluate.assessment_sections(assessment),
        dimers_section(*dimers),
        data_section(starter.provenance(folder=settings.starter), census.model_dump(mode="json"), files),
        settings_section(train_settings(settings, files)),
    ]
    write_atomically(result.report, page(trained, rows, sections).encode())
    diary.write(files, starter.provenance(folder=settings.starter))
    reporter.info(f"report: {result.report.resolve()}")
    return result


def write_parts(settings: DemoSettings) -> dict[str, Path]:
    """The starter set divided into files for training, validation and test; deterministic in the seed."""
    import numpy as np

    from rutile import starter
    from rutile.core.seeds import stream
    from rutile.data.split import divide
    from rutile.structures.io import write_frames

    frames = starter.frames(folder=settings.starter)
    kinds = np.array([str(a.info["config_type"]) for a in frames])
    free = np.flatnonzero(kinds != starter.TRAJECTORY)
    _, strata = np.unique(kinds[free], return_inverse=True)
    side = np.zeros(len(frames), dtype=np.int64)
    side[free] = divide(free, strata, np.array(list(PARTS.values())), stream(settings.seed, "demo"))
    out = {name: settings.out / f"{name}.extxyz" for name in PARTS}
    for k, path in enumerate(out.values()):
        write_frames(path, [frames[i] for i in np.flatnonzero(side == k)], "extxyz")
    return out


def train_settings(settings: DemoSettings, files: dict[str, Path]) -> TrainTaskSettings:
    """The training job of the demo."""
    from rutile.tasks.train import TrainTaskSettings

    job: dict[str, Any] = {
        "data": [files["train"], files["valid"]],
        "split": {"valid_files": [files["valid"]]},
        "out": settings.out / "run",
        "potential": {
            "name": "behler",
            "table": TABLE,
            "hidden": settings.hidden,
            "activation": "silu",
            "scaling": "whitened",
        },
        "loss": {
            "energy": {"start": 1.0, "limit": 50.0},
            "force": {"start": 1.0, "limit": 1.0},
            "virial": {"start": 0.1, "limit": 10.0},
        },
        "optimizer": {"name": "adam", "learning_rate": 0.003},
        "schedule": {"name": "exponential", "stop": 0.01},
        "epochs": settings.epochs,
        "max_seconds": settings.seconds,
        "batch_size": 4,
        "force_limit": HUGE,
        "report_force_limit": LARGE,
        "precision": "float32",
        "ema": 0.999,
        "keep": "last",
        "threads": 1,
        "seed": settings.seed,
    }
    return TrainTaskSettings.model_validate(job)


def run_or_begin_anew(run: Callable[[Job, Reporter], Done], job: Job, reporter: Reporter) -> Done:
    """Do a job; where its folder holds the run of another version or of other settings, that one is put aside."""
    try:
        return run(job, reporter)
    except SettingsError as error:
        if not job.out.is_dir():
            raise
        aside = next(p for k in count(1) if not (p := job.out.with_name(f"{job.out.name}-{k}")).exists())
        job.out.rename(aside)
        reporter.warn(f"{error}. The demo puts it aside as {aside} and begins anew")
    return run(job, reporter)


def evaluate_settings(settings: DemoSettings, files: dict[str, Path]) -> EvaluateSettings:
    """The evaluation job of the demo."""
    from rutile.tasks.evaluate import EvaluateSettings

    return EvaluateSettings(model=settings.out / "run", data=[files["test"]], out=settings.out, force_limit=LARGE)


def relax_polymorphs(references: list[Polymorph], model: Path, reporter: Reporter) -> dict[str, Polymorph | None]:
    """Polymorphs relaxed with the potential, atoms and cell, from expanded DFT minima; None where that failed."""
    from rutile import starter
    from rutile.potentials.save import load_model
    from rutile.simulate.relax import relax
    from rutile.simulate.settings import RelaxSettings
    from rutile.structures.structures import Structures

    starts = [p.atoms.copy() for p in references]
    for atoms in starts:
        atoms.set_cell(EXPANSION * atoms.cell.array, scale_atoms=True)
    settings = RelaxSettings(cell="full", fmax=0.003, smax=0.02, max_steps=400)
    relaxed = relax(Structures.from_ase(starts), load_model(model).potential, settings, reporter)
    ends: list[Atoms] = relaxed.structures.to_ase()
    return {
        p.name: starter.polymorph(p.name, atoms, float(energy)) if bool(good) else None
        for p, atoms, energy, good in zip(references, ends, relaxed.energy, relaxed.converged, strict=True)
    }


def beside(references: list[Polymorph], found: dict[str, Polymorph | None]) -> list[RelaxedPolymorph]:
    """Each polymorph by DFT and by the potential, energies above the lowest of each."""
    zero_dft = min(p.energy for p in references)
    zero = min((p.energy for p in found.values() if p is not None), default=0.0)
    out = []
    for p in references:
        q = found[p.name]
        out.append(
            RelaxedPolymorph(
                name=p.name,
                dft=1000 * (p.energy - zero_dft),
                ours=None if q is None else 1000 * (q.energy - zero),
                abc_dft=p.crystal.lengths,
                abc=None if q is None else q.crystal.lengths,
                volume=None if q is None else 100 * (q.volume / p.volume - 1),
                group="" if q is None else q.crystal.spacegroup,
            )
        )
    return out


def polymorph_section(polymorphs: list[RelaxedPolymorph]) -> Section:
    """Energy order and lattice constants beside the DFT's own."""
    import numpy as np

    from rutile.train.figures import energy_order
    from rutile.train.report import Figures, Section, Table, Text

    names = [p.name for p in polymorphs]
    dft = np.array([p.dft for p in polymorphs])
    ours = np.array([np.nan if p.ours is None else p.ours for p in polymorphs])
    intro = (
        "Every polymorph was relaxed, atoms and cell, once by DFT and once by the trained potential, which started "
        f"from the DFT's structure with all lengths multiplied by {EXPANSION:g}. Both keep the symmetry. Energies are "
        "those of one formula unit above the lowest polymorph of the same method. The DFT's relaxations are among the "
        "training data, so this shows how well they are learnt; the errors further down are of structures never seen."
    )
    energies = Table(
        ("polymorph", "DFT (meV)", "potential (meV)", "volume (%)", "space group after"),
        [(p.name, p.dft, p.ours, p.volume, p.group or "did not relax") for p in polymorphs],
        "Energy above the lowest polymorph, and difference of the volume to the DFT's.",
    )
    none = (None, None, None)
    lattice = Table(
        ("polymorph", "a DFT (Å)", "a", "b DFT (Å)", "b", "c DFT (Å)", "c"),
        [(p.name, *(x for pair in zip(p.abc_dft, p.abc or none, strict=True) for x in pair)) for p in polymorphs],
        "Lattice constants of the conventional cell by DFT and by the potential.",
    )
    figure = energy_order(names, dft, ours, "energy above the lowest (meV per TiO₂)")
    return Section("Polymorphs", [Text(intro), Figures([(figure, "")]), energies, lattice])


def data_section(provenance: dict[str, Any], census: dict[str, Any], files: dict[str, Path]) -> Section:
    """Where the labels come from, what is in them, and how they were divided."""
    from rutile.structures.io import iterate
    from rutile.train.report import Facts, Section, Table, Text

    counts: dict[str, dict[str, int]] = {}
    for part, path in files.items():
        for atoms in iterate(path, "extxyz"):
            kind = counts.setdefault(str(atoms.info["config_type"]), dict.fromkeys(files, 0))
            kind[part] += 1
    total = sum(sum(kind.values()) for kind in counts.values())
    intro = (
        f"{total} frames of TiO₂ that rutile labelled itself with density functional theory, by a script that anyone "
        "can run again (scripts/tio2_starter.py). The parts were chosen at random, in equal proportion for each kind; "
        "the steps of the DFT relaxations are all in the training part. The test part was never seen in training."
    )
    table = Table(
        ("kind of frame", *files), [(kind, *(n[part] for part in files)) for kind, n in sorted(counts.items())]
    )
    labels = {k: provenance[k] for k in ("calc_mode", "code", "paw_datasets", "settings", "units", "settings_hash")}
    return Section(
        "Data",
        [Text(intro), table, Facts(labels, folded="How the labels were made"), Facts(census, folded="Census")],
    )


def settings_section(job: TrainTaskSettings) -> Section:
    """Settings of the training run."""
    from rutile.train import sections

    return sections.settings_section({"Training": job.model_dump(mode="json")})


def page(trained: TrainResult, rows: dict[tuple[str, str], Any], sections: list[Section]) -> str:
    """The whole page."""
    from rutile.train.report import render
    from rutile.train.sections import cards

    subtitle = (
        f"A Behler-Parrinello potential with 70 symmetry functions per element, trained on PBE labels for "
        f"{trained.epochs} epochs in {trained.seconds:.0f} s. The numbers below are errors on the "
        f"{rows['energy', 'eV/atom']['count']} structures it has not seen whose forces are below {LARGE:g} eV/Å; under "
        "Errors are the others too."
    )
    return render("TiO₂: from DFT to a checked potential", subtitle, cards(rows.values()), sections)


TASK = Task(
    "demo",
    DemoSettings,
    DemoResult,
    run,
    examples=("rutile demo", "rutile demo seconds=60 out=quick"),
)
