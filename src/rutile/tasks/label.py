"""`rutile label`: energies, forces and stresses of structures from an engine that computes them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from rutile.core.elements import formula
from rutile.core.errors import LabelError
from rutile.core.executors.settings import ExecutorSettings, ThreadsSettings
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.core.units import Second
from rutile.data.settings import Format, ReadSettings
from rutile.label.settings import EngineSettings
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.label.campaign import Labelled
    from rutile.label.labeler import Failure, Label


class LabelSettings(Settings):
    """Which structures to label, with which engine."""

    structures: list[Path] = Field(min_length=1)
    """Files, folders or patterns of structures; labels in them are ignored. `kpoints`, `charge`, `multiplicity` and
    `initial_magmoms` of a frame come before the settings of the engine."""
    engine: EngineSettings
    """What computes the labels."""
    out: Path = Path("labelled.extxyz")
    """File for the labelled structures, labels (eV, eV/Å, eV/Å³) under REF_energy, REF_forces and REF_stress, and where
    they come from. What failed is listed beside it, in a file with the ending .failures.jsonl."""
    cache: Path = Path("labels")
    """Folder in which every label is kept as it is done: what is there is not computed again, in this run or another.
    Several runs may share it."""
    workers: int = Field(default=1, ge=1)
    """Structures computed at the same time: threads, processes or jobs."""
    executor: ExecutorSettings = ThreadsSettings()
    """Who does the work: threads of this process, `local` processes that are replaced when they are lost, or `slurm`
    jobs."""
    self_check: bool = True
    """See first, on a small structure, that forces and stress are the derivatives of the energy: labels whose forces
    are not are refused, a stress that is not is left away."""
    isolated_atoms: bool = True
    """Label an isolated atom of each element, too, from whose energies a potential counts."""
    retry_failed: bool = False
    """Compute what failed in an earlier run again."""
    format: Format | None = None
    """Format of the files; without it the name of each file (and its first bytes) decide."""
    on_bad: Literal["error", "skip"] = "error"
    """What to do with a structure that is damaged (NaN, overlapping atoms, no cell): stop, or leave it out."""


class FailedKind(Result):
    """Failures of one kind."""

    kind: str
    """Such as "not converged"."""
    structures: int
    """How many."""
    example: str
    """The first: structure and reason."""


class LabelResult(Result):
    """What was labelled, and where it is."""

    structures: int
    """Structures given."""
    labelled: int
    """Structures with labels."""
    failed: int
    """Structures without."""
    known: int
    """Structures whose label was known before this run."""
    computed: int
    """Calculations of this run, with those of the self-check and of isolated atoms."""
    seconds: Second
    """Time that the labels took, also in earlier runs, in all."""
    calc_mode: str
    """Name of the reference method."""
    code: str
    """Engine and version."""
    with_stress: int
    """Structures with a stress."""
    isolated_atoms: int
    """Isolated atoms with an energy."""
    self_check: str
    """What the self-check found."""
    failures: list[FailedKind]
    """Why structures failed."""
    out: Path
    """The labelled structures."""
    failure_list: Path | None
    """What failed, one line of JSON for each structure; null where nothing failed."""


def run(settings: LabelSettings, reporter: Reporter) -> LabelResult:
    """Label structures: energy, forces and stress from an engine, each calculation in its own process."""
    from rutile.core.executors.catalogue import open_executor
    from rutile.label.cache import LabelCache
    from rutile.label.campaign import Campaign
    from rutile.structures.io import format_for_writing, write_frames

    format_for_writing(settings.out)
    sources, structures = _structures(settings, reporter)
    cache = LabelCache(settings.cache)
    with open_executor(settings.executor, settings.workers, reporter) as executor:
        campaign = Campaign(settings.engine, cache, executor, reporter, settings.retry_failed)
        done = campaign.run(structures, settings.self_check, settings.isolated_atoms)
    failures = _failures(sources, structures, done)
    listed = _list_failures(settings.out, failures)
    kinds = _kinds(failures)
    for kind in kinds:
        reporter.warn(f"{kind.structures} of {len(structures)} failed ({kind.kind}), such as {kind.example}")
    if len(failures) == len(structures):
        reason = failures[0]["reason"]
        raise LabelError(f"none of {len(structures)} structures has a label: {reason} (more in {listed})")
    frames = list(_frames(structures, done, reporter))
    write_frames(settings.out, frames)
    return _result(settings, done, len(structures), frames, kinds, listed)


def _structures(settings: LabelSettings, reporter: Reporter) -> tuple[list[str], list[Atoms]]:
    """Names and structures, with all that the files say about them except labels."""
    from rutile.data.reading import readings, unlabelled

    read = ReadSettings(energy_key="none", forces_key="none", stress_key="none", format=settings.format)
    sources, structures = [], []
    for reading in readings(settings.structures, read):
        if reading.problem is not None:
            if settings.on_bad == "error":
                raise reading.problem
            reporter.warn(f"skipped: {reading.problem}")
            continue
        sources.append(f"{reading.path}#{reading.number}")
        structures.append(unlabelled(reading, read))
    if not structures:
        raise LabelError(f"{', '.join(map(str, settings.structures))}: no usable structure")
    return sources, structures


def _frames(structures: list[Atoms], done: Labelled, reporter: Reporter) -> Iterator[Atoms]:
    """Structures with labels, then isolated atoms with energies."""
    from rutile.label.labeler import Label

    for atoms, outcome in zip(structures, done.outcomes, strict=True):
        if isinstance(outcome, Label):
            yield _labelled(atoms, outcome)
    for atoms, outcome in zip(done.atoms, done.references, strict=True):
        if isinstance(outcome, Label):
            yield _labelled(atoms, outcome)
        else:
            reporter.warn(
                f"no energy of an isolated {formula(atoms.numbers)} ({outcome.kind}: {outcome.reason}); training "
                "will fit one to the composition"
            )


def _labelled(atoms: Atoms, label: Label) -> Atoms:
    """A copy with labels."""
    out: Atoms = atoms.copy()
    out.info |= {k: np.array(v) if isinstance(v, list) else v for k, v in label.provenance.items() if v is not None}
    out.info["REF_energy"] = label.energy
    out.arrays["REF_forces"] = label.forces
    if label.stress is not None:
        out.info["REF_stress"] = label.stress
    return out


def _failures(sources: list[str], structures: list[Atoms], done: Labelled) -> list[dict[str, str | list[str]]]:
    """What failed, and why."""
    from rutile.label.labeler import Failure

    def entry(source: str, atoms: Atoms, failure: Failure) -> dict[str, str | list[str]]:
        what = formula(atoms.numbers.tolist())
        lines = list(failure.last_lines)
        return {
            "structure": source,
            "formula": what,
            "kind": failure.kind,
            "reason": failure.reason,
            "last_lines": lines,
        }

    rows = zip(sources, structures, done.outcomes, strict=True)
    return [entry(source, atoms, o) for source, atoms, o in rows if isinstance(o, Failure)]


def _list_failures(out: Path, failures: list[dict[str, str | list[str]]]) -> Path | None:
    """Write the list of failures; an older one goes."""
    path = out.with_suffix(".failures.jsonl")
    if not failures:
        path.unlink(missing_ok=True)
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(json.dumps(f) + "\n" for f in failures).encode())
    return path


def _kinds(failures: list[dict[str, str | list[str]]]) -> list[FailedKind]:
    """Failures by kind, the most frequent first."""
    out = []
    for kind, count in Counter(str(f["kind"]) for f in failures).most_common():
        first = next(f for f in failures if f["kind"] == kind)
        example = f"{first['structure']} ({first['formula']}): {first['reason']}"
        out.append(FailedKind(kind=kind, structures=count, example=example))
    return out


def _result(
    settings: LabelSettings,
    done: Labelled,
    given: int,
    frames: list[Atoms],
    kinds: list[FailedKind],
    listed: Path | None,
) -> LabelResult:
    """The summary."""
    atoms = sum(len(a) == 1 and not a.pbc.any() for a in frames)
    failed = sum(k.structures for k in kinds)
    return LabelResult(
        structures=given,
        labelled=given - failed,
        failed=failed,
        known=done.known,
        computed=done.computed,
        seconds=round(sum(float(a.info.get("seconds", 0.0)) for a in frames), 3),
        calc_mode=done.calc_mode,
        code=str(frames[0].info["code"]),
        with_stress=sum("REF_stress" in a.info for a in frames),
        isolated_atoms=atoms,
        self_check=done.verdict.note if done.verdict is not None else "not made",
        failures=kinds,
        out=settings.out,
        failure_list=listed,
    )


TASK = Task(
    "label",
    LabelSettings,
    LabelResult,
    run,
    positional="structures",
    examples=(
        "rutile label tio2.extxyz engine=gpaw engine.protocol=precise engine.python=gpaw/bin/python workers=2",
        "rutile label molecules.extxyz engine=xtb out=molecules-gfn2.extxyz",
        "rutile label tio2.extxyz engine=espresso workers=20 executor=slurm executor.partition=short executor.cores=8",
        "rutile label si.extxyz engine=espresso engine.pseudo_dir=pseudo engine.time_limit=600",
        "rutile label candidates.extxyz engine=potential engine.model=run out=distilled.extxyz",
    ),
)
