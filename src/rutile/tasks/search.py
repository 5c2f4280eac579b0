"""`rutile search`: crystals and clusters of low energy, by a genetic algorithm on a potential."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rutile.core.errors import DataError, SettingsError
from rutile.core.executors.settings import ExecutorSettings, ThreadsSettings
from rutile.core.files import folder_for_results
from rutile.core.lock import alone_in
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import Angstrom3PerAtom, EVPerAngstrom, EVPerAtom, GigaPascal, Second
from rutile.search.settings import (
    BETWEEN,
    CrystalSearch,
    GeneticSettings,
    Kind,
    OfMolecules,
    SurfaceSearch,
    check_composition,
)
from rutile.simulate.settings import RelaxSettings
from rutile.tasks.property import PropertyResult, part, write_result
from rutile.tasks.search_start import (
    ADAPT_LOG,
    LOG,
    keep_settings,
    reference_of,
    require_own,
    roles_told,
    seeds_of,
    told_of_files,
    told_of_row,
    write_each,
)
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ase import Atoms

    from rutile.search.breeding import Problem
    from rutile.search.genetic import Genetic
    from rutile.search.log import Log
    from rutile.search.past import Past
    from rutile.search.relaxing import Relaxer
    from rutile.search.results import Distinct

BETTER = 10.0
"""The structures of the table are relaxed to limits so many times smaller."""
MOVE = 0.4
"""Longest move of an atom in one step (Angstrom): new structures are far from their minima."""


class SearchSettings(GeneticSettings):
    """What to search for, on which potential, and how long."""

    formula: str = ""
    """Of crystals the formula unit, such as TiO2; of clusters all atoms, such as Cu38; of surfaces and interfaces all
    that are placed; of crystals of variable composition the end members, such as Cu-Au, Li-Fe-O or TiO2-Ti2O3; nothing
    where molecules are given (structure.molecules)."""
    model: Path
    """Model file, the folder of a training run, or a potential that needs none: emt, lennard_jones, rigid_ion,
    bond_valence."""
    structure: Kind = CrystalSearch()
    """Crystals, clusters, atoms on a slab (surface) or between two (interface)."""
    relaxations: int = Field(default=1000, ge=1)
    """Structures that are made and relaxed. A larger number later goes on where the search was."""
    unchanged: int | None = Field(default=None, ge=1)
    """Stop early when the lowest energy (of variable composition: the convex hull) has not changed for so many
    relaxations."""
    target: EVPerAtom | None = None
    """Stop when an energy as low as this is found; not of variable composition."""
    fmax: EVPerAngstrom = Field(default=0.05, gt=0)
    """Relaxed when no atom feels a larger force than this; the structures of the table are relaxed ten times better."""
    smax: GigaPascal = Field(default=0.2, gt=0)
    """Relaxed when no stress component differs more than this from the pressure; as `fmax`."""
    max_steps: int = Field(default=300, ge=1)
    """Steps of a relaxation at most."""
    variants: int = Field(default=6, ge=1)
    """Made of each child by its operator from the same parents; the lowest in energy as made is relaxed."""
    batch: int = Field(default=16, ge=1)
    """Structures that a worker relaxes together."""
    workers: int = Field(default=1, ge=1)
    """Batches at the same time."""
    executor: ExecutorSettings = ThreadsSettings()
    """Where: here, in processes here (local), in jobs of a cluster (slurm)."""
    keep: int = Field(default=30, ge=1)
    """Different structures in the table at most."""
    window: EVPerAtom = Field(default=0.3, gt=0)
    """How far above the lowest one, or above the convex hull, they may be."""
    seeds: list[Path] = []
    """Files or patterns of structures (CIF, POSCAR, extended XYZ, the best.extxyz of another search) that are relaxed
    first and enter the pool."""
    seed: int = Field(default=0, ge=0)
    """Of all random numbers."""
    precision: Literal["float32", "float64"] = "float64"
    """Precision of the arithmetic."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, or auto: a GPU if there is one."""
    mode: str | None = None
    """Reference method (calc mode); needed only if the model knows several."""
    every: Second = Field(default=30.0, ge=0)
    """While it searches, table.csv and report.html are written again at most so often."""
    out: Path = Path("search")
    """Folder for search.jsonl (all that happened), settings.json, table.csv, best.extxyz, structures/ (a file for
    each), report.html and result.json. What is there is gone on with, also by `rutile search resume`."""


class SearchRow(Result):
    """One of the structures that were found."""

    number: int
    """Its place in the order of all that were made."""
    formula: str | None = None
    """Of variable composition."""
    energy: EVPerAtom
    """Energy, or enthalpy under pressure; of atoms on slabs what they add to that of the slabs, for each of them."""
    formation: EVPerAtom | None = None
    """Of variable composition: energy of formation from the lowest end members."""
    above: EVPerAtom
    """Above the lowest one; of variable composition above the convex hull (0: stable)."""
    hits: int
    """How often it was found."""
    first: int
    """Number of the first copy."""
    symmetry: str
    """Of crystals, and of slabs with what lies on them, the space group; of clusters the point group ("order 16": one
    of 16 operations that has no name here)."""
    atoms: int
    """In the cell."""
    volume: Angstrom3PerAtom | None = None
    """Of crystals."""
    operator: str
    """What made it."""
    parents: str
    """Numbers of the structures it was made from."""


class SearchTaskResult(PropertyResult):
    """What a search found."""

    relaxed: int
    """Structures relaxed in all."""
    failed: int
    """Of those, that could not be used."""
    pools: int
    """Pools that were begun."""
    reached: bool | None = None
    """Whether the target was reached, if there was one."""
    stable: int | None = None
    """Of variable composition: structures on the convex hull."""
    structures: list[SearchRow]
    """Different structures, lowest first."""
    best: Path
    """Those structures, in the same order."""


def run(settings: SearchSettings, reporter: Reporter) -> SearchTaskResult:
    """Search for crystals or clusters of low energy by a genetic algorithm on a potential.

    Steady state: whenever a worker is free, it gets children of the best structures so far. Stop it at any time; the
    same command goes on.
    """
    from rutile.search.genetic import Genetic
    from rutile.search.log import Log

    problem = problem_of(settings.formula, settings.structure)
    if settings.target is not None and BETWEEN in settings.formula:
        raise SettingsError(f"target={settings.target:g} is an energy of one composition; use unchanged= here")
    seeds = seeds_of(settings.seeds, problem)
    search = Genetic(problem, part(settings, GeneticSettings), settings.seed, seeds)
    with folder_for_results(settings.out), alone_in(settings.out, reporter):
        require_own(settings.out, ADAPT_LOG)
        files = told_of_files(seeds, problem)
        log = Log(settings.out / LOG, _identity(settings) | files, _identity(settings, unusual=True) | files)
        keep_settings(settings.out, settings)
        log.replay(search)
        if log.past:
            reporter.info(f"{len(log.past)} relaxations are known from {log.path}")
        _search(settings, search, log, reporter)
        return _finish(settings, search, log.past, reporter)


def problem_of(formula: str, kind: Kind) -> Problem:
    """What is searched for.

    Raises:
        SettingsError: neither a formula nor molecules are given, or both; settings that do not fit together.
    """
    from rutile.search.clusters import Clusters
    from rutile.search.crystals import Crystals
    from rutile.search.mixtures import Mixtures
    from rutile.search.molecular import MolecularClusters, MolecularCrystals
    from rutile.search.surfaces import Surfaces

    molecules = isinstance(kind, OfMolecules) and bool(kind.molecules)
    if molecules == bool(formula):
        raise SettingsError(f"give {'either ' if molecules else ''}a formula, such as TiO2, or structure.molecules")
    check_composition(formula, kind)
    if isinstance(kind, SurfaceSearch):
        return Surfaces(formula, kind)
    if isinstance(kind, CrystalSearch):
        if BETWEEN in formula:
            return Mixtures(formula, kind)
        return MolecularCrystals(kind) if molecules else Crystals(formula, kind)
    return MolecularClusters(kind) if molecules else Clusters(formula, kind)


def _identity(settings: SearchSettings, *, unusual: bool = False) -> dict[str, Any]:
    """What decides about the search, or the part that is no default; how long and where it runs does not."""
    import hashlib

    from rutile.tasks.apply import model_content

    names = ("formula", "structure", "fmax", "smax", "max_steps", "seed", "precision", "mode")
    files = {"structure": {"slab", "upper"}}  # what is in them counts
    known = settings.model_dump(mode="json", exclude=files, exclude_defaults=unusual)
    model = hashlib.sha256(model_content(settings.model)).hexdigest()[:16]
    return {n: known[n] for n in (*GeneticSettings.model_fields, *names) if n in known} | {"model": model}


def _work(settings: SearchSettings, search: Genetic, better: float = 1.0) -> Relaxer:
    """The work of the workers, with what this problem asks of it."""
    needed = any(op.atom_energies and search.weights[op.name] for op in search.problem.operators)
    reference = reference_of(search.problem, _relaxer(settings, BETTER))
    check = check_of(search.problem, settings.structure)
    return replace(_relaxer(settings, better), reference=reference, atom_energies=needed, check=check)


def check_of(problem: Problem, kind: Kind) -> Callable[[Atoms], str] | None:
    """What says why a relaxed structure cannot be used, or "": broken molecules; None: there are none to look at."""
    checked = isinstance(kind, OfMolecules) and kind.broken == "refuse"
    return getattr(problem, "check", None) if checked else None


def _relaxer(settings: SearchSettings, better: float = 1.0) -> Relaxer:
    """Relaxations as the settings say."""
    from rutile.search.relaxing import Relaxer

    crystal = isinstance(settings.structure, CrystalSearch)
    how = RelaxSettings(
        fmax=settings.fmax / better, smax=settings.smax / better, max_steps=round(settings.max_steps * better),
        max_move=MOVE, cell="full" if crystal else "none",
        pressure=settings.structure.pressure if isinstance(settings.structure, CrystalSearch) else 0.0,
    )  # fmt: skip
    return Relaxer(settings.model, settings.precision, settings.device, settings.mode, how)


def _search(settings: SearchSettings, search: Genetic, log: Log, reporter: Reporter) -> None:
    """The loop; what comes of it is in the log."""
    import itertools

    from rutile.core.executors.catalogue import open_executor
    from rutile.core.executors.executor import Lost
    from rutile.search.individual import Candidate, Order, lost
    from rutile.search.relaxing import Raiser
    from rutile.tasks.search_table import Live, told_of

    groups: dict[int, list[Order | Candidate]] = {}
    number = itertools.count()
    logged, live = search.made, Live(settings, search)

    def children() -> Iterator[list[Order | Candidate]]:
        for group in search.orders(settings.batch, settings.relaxations):
            log.made([c for c in group if c.number >= logged])
            groups[next(number)] = group
            yield group
            if _enough(settings, search):
                return

    if _enough(settings, search):
        return
    work = Raiser(search.breeder, _work(settings, search), settings.variants)
    with open_executor(settings.executor, settings.workers, reporter) as executor:
        results = executor.each(work, children())
        total = -(-(settings.relaxations - search.done) // settings.batch)
        for index, found in reporter.track(results, "Searching", total):
            group = groups.pop(index)
            if isinstance(found, Lost):
                found = [lost(one, found.reason) for one in group]
            before = search.best
            log.done(search, found)
            if search.best is not None and search.best is not before:
                reporter.info(f"{search.done} relaxed: {told_of(search.best, search.ranking)}")
            live.show(log.past)


def _enough(settings: SearchSettings, search: Genetic) -> bool:
    """Whether the search may end before all relaxations are done."""
    if search.best is None:
        return False
    reached = settings.target is not None and search.best.energy <= settings.target
    idle = settings.unchanged is not None and search.done - search.best_at >= settings.unchanged
    return reached or idle


def _finish(settings: SearchSettings, search: Genetic, past: Past, reporter: Reporter) -> SearchTaskResult:
    """The lowest structures, relaxed well, and the files.

    Raises:
        DataError: no structure could be used, or none of an end member.
    """
    from rutile.search.results import distinct
    from rutile.structures.io import write_frames
    from rutile.tasks.search_page import page
    from rutile.tasks.search_table import ranking_of, table

    if search.best is None:
        *_, reason = ["nothing was relaxed", *(d.failure for d in past)]
        raise DataError(f"none of {len(past)} structures could be used; the last: {reason}")
    order = ranking_of(search, past)
    pool, at = settings.pool, search.problem.distance
    rough = distinct(past, past.atoms, pool, at, settings.window, settings.keep, order)
    fine = _better(settings, search, rough, reporter)
    order = ranking_of(search, fine)
    final = distinct(fine, fine.atoms, pool, at, settings.window, settings.keep, order)
    result = table(settings, search, past, final, rough, order)
    images = []
    for row, d in zip(result.structures, final, strict=True):
        image = roles_told(d.found.atoms)
        image.info = told_of_row(row)
        images.append(image)
    write_frames(result.best, images)
    write_each(settings.out, images, settings.formula)
    return write_result(settings.out, result, result.structures, page(settings, result, past, order, images))


def _better(settings: SearchSettings, search: Genetic, rough: Sequence[Distinct], reporter: Reporter) -> Past:
    """Structures relaxed to smaller limits."""
    from rutile.search.individual import Candidate, Relaxed
    from rutile.search.past import Past

    work = _work(settings, search, BETTER)
    atoms: dict[int, Atoms] = {}
    fine = Past(atoms.__getitem__)
    for d in reporter.track(rough, "Relaxing the best", len(rough)):
        f = d.found
        ((_, one),) = work([Candidate(f.number, f.atoms, f.operator, f.parents)])
        if one.failure and search.ranking.places > 1:  # the hull may need it
            one = Relaxed(f.atoms, f.energy, "", one.steps)
        atoms[f.number] = one.atoms
        fine.add(f.number, f.operator, f.parents, one.energy, one.failure, one.atoms.numbers, f.number)
    return fine


TASK = Task(
    "search",
    SearchSettings,
    SearchTaskResult,
    run,
    positional="formula",
    examples=(
        "rutile search TiO2 model=run structure.units=[2,4] relaxations=2000",
        "rutile search Cu-Au model=run structure.atoms=[2,8] relaxations=2000",
        "rutile search TiO2-Ti2O3 model=run structure.atoms=[5,16] structure.compositions=[Ti3O5,Ti4O7]",
        "rutile search Cu13 structure=cluster model=emt relaxations=300",
        "rutile search SiO2 model=run structure.pressure=10 workers=4 executor=local",
        "rutile search TiO2 model=run structure.units=[2,4] seeds=[anatase.cif,earlier/best.extxyz]",
        "rutile search resume search relaxations=2000",
        "rutile search export search format=cif window=0.05",
    ),
)
