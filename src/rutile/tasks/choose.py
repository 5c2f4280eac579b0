"""`rutile choose`: the structures that are worth a label, by the disagreement of a committee."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rutile.active.settings import ChoiceSettings
from rutile.core.errors import SettingsError
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import EVPerAngstrom
from rutile.tasks.apply import GivenStructures, batches, read_given, reading_of, readings_given
from rutile.tasks.calibrate import REMEDY
from rutile.tasks.task import Task

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

    from rutile.active.choose import Decision, Levels
    from rutile.active.disagreement import Disagreement
    from rutile.data.frames import Frame
    from rutile.data.reading import Reading
    from rutile.data.settings import ReadSettings
    from rutile.potentials.calibration import Calibration
    from rutile.potentials.model import Model
    from rutile.potentials.potential import Potential

LOWEST = 0.05
"""Default of low is not below this (eV/Angstrom)."""
HIGH = 10.0
"""Default of high, in low."""
DOUBTFUL = 1.0
"""A default of low above this (eV/Angstrom) says that the model knows too little for its agreement to mean much."""


class ChooseSettings(GivenStructures, ChoiceSettings):
    """What to choose from, and how."""

    known: list[Path] = []
    """Structures that have labels already, such as the training data: what is like them is left out."""
    out: Path = Path("chosen.extxyz")
    """File for the chosen structures, best first, with all that their files say about them except labels, and with what
    the members say: energy_std (eV/atom) and force_std (eV/Å) in the info line."""
    decisions: Path = Path("decisions.csv")
    """File for what became of every structure, and why."""
    report: Path = Path("choice.html")
    """Page with the figures."""
    batch_atoms: int = Field(default=512, ge=1)
    """Evaluate structures together up to so many atoms; more needs more memory."""


class ChooseResult(Result):
    """What was chosen."""

    chosen: int
    """Structures that are worth a label, within the budget."""
    classes: dict[str, int]
    """Structures by class: accurate, candidate, failed, impossible."""
    low: EVPerAngstrom
    """Trust level below which the members agree."""
    high: EVPerAngstrom
    """Trust level above which a structure counts as broken."""
    calibrated: bool
    """Whether disagreement was scaled to the size of errors."""
    out: Path
    """The chosen structures."""
    decisions: Path
    """What became of every structure."""
    report: Path
    """Page with the figures."""


def run(settings: ChooseSettings, reporter: Reporter) -> ChooseResult:
    """Choose the structures whose labels a model needs most."""
    import torch

    from rutile.active.choose import choose
    from rutile.active.page import page
    from rutile.potentials.combine import common_elements
    from rutile.potentials.modes import modes_of
    from rutile.potentials.save import load_model
    from rutile.structures.io import write_frames

    model = load_model(settings.model)
    members = model.members({"float32": torch.float32, "float64": torch.float64}[settings.precision], settings.device,
                            settings.mode)  # fmt: skip
    if len(members) < 2:
        raise SettingsError(f"{settings.model} is a single potential, which cannot disagree with itself: {REMEDY}")
    bars = model.calibration and model.calibration.of(modes_of(members[0])[0])
    fits = bars is not None and bars.members == len(members)
    if not fits:
        reporter.warn("the model is not calibrated: its spread may be far below its errors (`rutile calibrate`)")
    levels = trust_levels(settings, model)
    if settings.low is None and (doubt := doubt_about(levels)):
        reporter.warn(doubt)
    elements = common_elements(members)
    seen = _look(settings, members, bars if fits else None, readings_given(settings, elements, reporter), reporter)
    known = _known(settings, members, elements, reporter)
    decisions = choose(seen.found, seen.features, known, seen.impossible, levels, settings)
    order = sorted((d.rank, k) for k, d in enumerate(decisions) if d.rank is not None)
    if order:
        write_frames(settings.out, (_chosen(seen, k) for _, k in order))
    else:
        settings.out.unlink(missing_ok=True)
        reporter.warn("nothing was chosen: no file of structures was written")
    write_atomically(settings.decisions, _table(seen, decisions).encode())
    names = [str(a.info["source"]) for a in seen.structures]
    facts = settings.model_dump(mode="json")
    text = page(names, decisions, seen.found, (seen.features, known), levels, fits, facts)
    write_atomically(settings.report, text.encode())
    return ChooseResult(
        chosen=len(order),
        classes=dict(sorted(Counter(d.kind for d in decisions).items())),
        low=levels.low,
        high=levels.high,
        calibrated=fits,
        out=settings.out,
        decisions=settings.decisions,
        report=settings.report,
    )


def trust_levels(settings: ChoiceSettings, model: Model) -> Levels:
    """Trust levels for a model; see `ChoiceSettings`.

    Raises:
        SettingsError: high is not above low.
    """
    from rutile.active.choose import Levels

    valid: Any = model.info.metrics.get("valid")
    rmse = valid.get("force_rmse") if isinstance(valid, dict) else None
    known = float(rmse) if isinstance(rmse, int | float) else 0.0
    low = settings.low if settings.low is not None else max(LOWEST, 2 * math.sqrt(3) * known)  # of the whole vector
    high = settings.high if settings.high is not None else HIGH * low
    if high <= low:
        raise SettingsError(
            f"high={high:g} eV/Å must be above low, which is {low:.3g} eV/Å: give low=, or a larger high="
        )
    return Levels(low, high, settings.energy_low)


def doubt_about(levels: Levels) -> str:
    """What is to be said of levels that were not given; empty: nothing."""
    if levels.low <= DOUBTFUL:
        return ""
    return (
        f"low = {levels.low:.3g} eV/Å, from the model's own validation error: with such errors members that agree may "
        "all be wrong; begin with more data, train longer, or give choose's low="
    )


@dataclass
class _Seen:
    """The structures and what the members say about them."""

    structures: list[Atoms]
    """With all that their files say about them except labels; `source` says where they come from."""
    found: Disagreement
    features: np.ndarray
    impossible: list[str] = field(default_factory=list)


def _look(
    settings: ChooseSettings, members: Sequence[Potential], calibration: Calibration | None,
    readings: Iterator[Reading], reporter: Reporter,
) -> _Seen:  # fmt: skip
    """Let the members speak about each structure.

    Raises:
        GeometryError: two atoms at one place; names the structure.
    """
    import numpy as np

    from rutile.active.disagreement import disagreement, joined
    from rutile.active.look import structure_features, too_close
    from rutile.graph.graph import build_graph
    from rutile.graph.neighbors import find_edges
    from rutile.potentials.checks import check_distances
    from rutile.potentials.evaluate import evaluate_members
    from rutile.potentials.placement import placement
    from rutile.structures.structures import concatenate

    dtype, device = placement(members[0])
    parts, features, impossible = [], [], []
    kept: list[Atoms] = []
    frames = reporter.track(_noted(readings, kept, reading_of(settings)), "Looking")
    for batch in batches(frames, settings.batch_atoms):
        structures = concatenate(f.structures() for f in batch)
        edges = find_edges(structures, members[0].cutoff)
        check_distances(structures, edges, [f.source for f in batch])
        placed, edges = structures.to(dtype=dtype, device=device), edges.to(device)
        graph = build_graph(placed, edges)
        found = disagreement(evaluate_members(members, placed, edges=edges), placed, calibration)
        close = too_close(graph, settings.closest)
        impossible += [
            why or (f"a force of {force:.3g} eV/Å" if not force <= settings.max_force else "")
            for why, force in zip(close, found.largest, strict=True)
        ]
        parts.append(found)
        features.append(structure_features(members[0], graph))
    return _Seen(kept, joined(parts), np.concatenate(features), impossible)


def _noted(readings: Iterator[Reading], kept: list[Atoms], read: ReadSettings) -> Iterator[Frame]:
    """The frames; what their files say about them besides goes to `kept`."""
    from rutile.data.reading import unlabelled

    for reading in readings:
        assert reading.frame is not None
        kept.append(unlabelled(reading, read))
        kept[-1].info["source"] = reading.frame.source
        yield reading.frame


def _known(
    settings: ChooseSettings, members: Sequence[Potential], elements: tuple[int, ...], reporter: Reporter
) -> np.ndarray:
    """Features of the structures that have labels, [K, F]; K = 0 where none are given."""
    import numpy as np

    from rutile.active.look import structure_features
    from rutile.graph.graph import build_graph
    from rutile.graph.neighbors import find_edges
    from rutile.potentials.placement import placement
    from rutile.structures.structures import concatenate

    if not settings.known:
        return np.zeros((0, 0))
    given = settings.model_copy(update={"structures": settings.known, "on_bad": "skip"})
    dtype, device = placement(members[0])
    rows = []
    for batch in batches(read_given(given, elements, reporter), settings.batch_atoms):
        structures = concatenate(f.structures() for f in batch).to(dtype=dtype, device=device)
        rows.append(structure_features(members[0], build_graph(structures, find_edges(structures, members[0].cutoff))))
    return np.concatenate(rows)


def _chosen(seen: _Seen, k: int) -> Atoms:
    """One structure, with what the members say about it."""
    atoms = seen.structures[k]
    atoms.info["energy_std"], atoms.info["force_std"] = float(seen.found.energy[k]), float(seen.found.force[k])
    return atoms


def _table(seen: _Seen, decisions: Sequence[Decision]) -> str:
    """What became of every structure, as CSV."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(("structure", "class", "rank", "force_std_eV_per_A", "energy_std_eV_per_atom", "atom", "reason"))
    for k, (atoms, d) in enumerate(zip(seen.structures, decisions, strict=True)):
        rank = "" if d.rank is None else d.rank
        force, energy, atom = seen.found.force[k], seen.found.energy[k], int(seen.found.atom[k])
        rows.writerow((atoms.info["source"], d.kind, rank, f"{force:.6g}", f"{energy:.6g}", atom, d.reason))
    return out.getvalue()


TASK = Task(
    "choose",
    ChooseSettings,
    ChooseResult,
    run,
    positional="structures",
    examples=(
        "rutile choose candidates.extxyz model=committee known=[train.extxyz] budget=50",
        "rutile choose trajectory.traj model=committee method=determinant low=0.1 high=1.5 out=label_me.extxyz",
    ),
)
