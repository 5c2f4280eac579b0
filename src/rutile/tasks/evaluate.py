"""`rutile evaluate`: errors of a model on labelled structures, as tables and as one HTML page."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from pydantic import Field

from rutile.core.errors import LabelError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.core.units import Angstrom, AtomsPerSecond, EVPerAngstrom, EVPerAtom, GigaPascal
from rutile.data.settings import ReadSettings
from rutile.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from ase import Atoms

    from rutile.potentials.calibration import Calibration
    from rutile.potentials.dimers import DimerCurve
    from rutile.potentials.potential import Potential
    from rutile.train.assess import Assessment, Compared
    from rutile.train.report import Section


MOST_PARITY = 3000
"""Values of one quantity with the largest errors that parity.csv holds, beside as many others."""
VOIGT_ROWS, VOIGT_COLUMNS = (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)


class EvaluateSettings(Settings):
    """What to evaluate on what."""

    model: Path
    """Model file, the folder of a training run, or a potential that needs none: emt, lennard_jones, rigid_ion,
    bond_valence."""
    data: list[Path] = Field(min_length=1)
    """Files with labelled structures."""
    read: ReadSettings = ReadSettings()
    """How to read the files."""
    out: Path = Path("evaluation")
    """Folder for report.html, metrics.json, metrics.csv, frames.csv (the errors of each frame) and parity.csv
    (reference and prediction of energies per atom, components of forces and stress: some of them, and those with the
    largest errors)."""
    predictions: bool = False
    """Also write predictions.extxyz: the structures with labels (REF_energy...) and predictions (energy, forces...)."""
    title: str = "Evaluation"
    """Heading of the report."""
    force_limit: EVPerAngstrom | None = Field(default=None, gt=0)
    """Report frames with all reference forces |F| below this apart from the others."""
    worst: int = Field(default=10, ge=0)
    """Number of worst frames to list."""
    batch_atoms: int = Field(default=2000, ge=1)
    """Evaluate about so many atoms at once; more needs more memory."""
    precision: Literal["float32", "float64"] = "float64"
    """Precision of the arithmetic."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, or auto: a GPU if there is one."""
    mode: str | None = None
    """Predict all structures in this calc mode. Without it each in the mode that it names, or in the only one of the
    model; labels of a method that the model does not know are refused."""
    dimers: bool = True
    """Also evaluate two atoms in vacuum for all pairs of the model's elements: does the model push them apart below
    0.7 of the sum of their covalent radii?"""


class ErrorRow(Result):
    """Errors of one quantity on one subset of the frames."""

    quantity: str
    """energy (per atom), force (components), force_vector (norm of the error), stress (components)."""
    unit: str
    """Of the errors."""
    subset: str
    """all, limit (frames below and above force_limit), mode (where there are several), element or group."""
    name: str
    """Which calc mode, element, group or limit."""
    count: int
    """Number of values."""
    mae: float
    """Mean absolute error."""
    rmse: float
    """Root mean square error."""
    max: float
    """Largest absolute error."""


class WorstFrame(Result):
    """One of the frames with the largest errors."""

    frame: str
    """File and 0-based frame number."""
    formula: str
    """Composition."""
    group: str
    """Kind of frame."""
    mode: str
    """Calc mode of the labels; "": it names none."""
    energy_error: EVPerAtom | None
    """Predicted minus reference energy."""
    force_rmse: EVPerAngstrom | None
    """RMSE of force components."""
    force_max: EVPerAngstrom | None
    """Largest error of a force vector."""
    energy: EVPerAtom | None
    """Reference energy."""
    force: EVPerAngstrom | None
    """Largest reference force."""
    stress_rmse: GigaPascal | None
    """RMSE of stress components."""
    pressure: GigaPascal | None
    """Reference pressure."""
    pressure_error: GigaPascal | None
    """Predicted minus reference pressure."""


class Hole(Result):
    """Two atoms that the model does not push apart at short distance."""

    pair: str
    """The elements, such as "O-Ti"."""
    mode: str
    """Calc mode; "" for a model without names of modes."""
    bond: Angstrom
    """Sum of the covalent radii."""
    distance: Angstrom
    """Largest distance below 0.7 of it where the pair is not repulsive."""


class DimerCheck(Result):
    """Two atoms in vacuum, for all pairs of elements and calc modes."""

    pairs: int
    """Number of pairs (times calc modes)."""
    repulsive: int
    """Those whose force pushes the atoms apart and whose energy rises inwards everywhere from 0.7 to 0.2 of the sum of
    the covalent radii."""
    holes: list[Hole]
    """The others, worst first."""


class EvaluateResult(Result):
    """Errors, and where they are written."""

    frames: int
    """Number of frames."""
    errors: list[ErrorRow]
    """MAE, RMSE and maximum by subset."""
    worst: list[WorstFrame]
    """Worst frames first, by the RMSE of their forces."""
    report: Path
    """The HTML page."""
    predictions: Path | None = None
    """Structures with labels and predictions."""
    dimers: DimerCheck | None = None
    """Whether atoms repel each other at short distance."""
    speed: AtomsPerSecond | None = None
    """Atoms whose energy, forces and stress were predicted in a second, by all members of a committee; reading the
    files and the first batch, which warms up, are left out."""
    threads: int | None = None
    """Threads of the processor while that was measured; none where a GPU computed."""
    device: str | None = None
    """Name of the processor or the GPU on which it was measured."""


def run(settings: EvaluateSettings, reporter: Reporter) -> EvaluateResult:
    """Errors of a model on labelled structures: MAE, RMSE, per element and group, parity plots, worst frames."""
    with folder_for_results(settings.out):
        return _evaluate(settings, reporter)


def _evaluate(settings: EvaluateSettings, reporter: Reporter) -> EvaluateResult:
    """The work of `run`, in a folder that exists."""
    from rutile.potentials.classical import open_model
    from rutile.train import sections
    from rutile.train.report import render

    assessment = assess_to_tables(settings, settings.out, reporter)
    curves, modes = dimer_curves(settings) if settings.dimers else ([], ())
    result = result_of(assessment, settings.device, settings.out / "report.html").model_copy(
        update={
            "predictions": settings.out / "predictions.extxyz" if settings.predictions else None,
            "dimers": check_dimers(curves, modes, reporter) if curves else None,
        }
    )
    names = ", ".join(str(p) for p in settings.data)
    page = render(
        settings.title,
        f"{settings.model} on {assessment.n_frames} frames of {names}",
        sections.cards(assessment.errors.rows()),
        [
            *model_sections(settings.model),
            *assessment_sections(assessment, open_model(settings.model).calibration),
            *([sections.dimers_section(curves, modes)] if curves else []),
            _settings_section(settings),
        ],
    )
    write_metrics(settings.out, result)
    write_atomically(result.report, page.encode())
    if result.speed:
        reporter.info(f"speed: {result.speed:.3g} atoms a second ({where_measured(result)})")
    reporter.info(f"report: {result.report.resolve()}")
    return result


def where_measured(result: EvaluateResult) -> str:
    """On what a speed was measured, for people."""
    return f"{result.device}, threads: {result.threads}" if result.threads else str(result.device)


def result_of(assessment: Assessment, device: str, report: Path) -> EvaluateResult:
    """The result model of an assessment on a device; structures and dimers are left out."""
    import torch

    from rutile.potentials.placement import device_name, usable_device

    where = usable_device(device)
    return EvaluateResult(
        frames=assessment.n_frames,
        errors=[ErrorRow(**row) for row in assessment.errors.rows()],
        worst=[WorstFrame(**dataclasses.asdict(error)) for error in assessment.worst],
        report=report,
        speed=assessment.speed,
        threads=torch.get_num_threads() if where.type == "cpu" else None,
        device=device_name(where),
    )


def assess_to_tables(settings: EvaluateSettings, folder: Path, reporter: Reporter) -> Assessment:
    """The comparison itself, with its tables of single frames and values: frames.csv and parity.csv.

    Raises:
        LabelError, ElementError, ModeError: as of `assess`.
    """
    with (folder / "frames.csv").open("w", encoding="utf-8", newline="") as table:
        assessment = assess(settings, reporter, table)
    write_parity(folder / "parity.csv", assessment)
    return assessment


def assess(settings: EvaluateSettings, reporter: Reporter, table: TextIO | None = None) -> Assessment:
    """The comparison itself; writes predictions.extxyz where asked for, and the errors of each frame into a table.

    Raises:
        LabelError: no frame has a label.
        ElementError: a frame holds an element that the model does not know.
        ModeError: the labels of a frame are of a calc mode that the model does not know, or that is not clear.
    """
    import torch

    from rutile.potentials.checks import smoothness_note
    from rutile.potentials.classical import open_model
    from rutile.structures.io import write_frames
    from rutile.train.assess import Assessment, FrameError

    dtype = {"float32": torch.float32, "float64": torch.float64}[settings.precision]
    members = open_model(settings.model).raw_members(dtype, settings.device)
    if note := smoothness_note(members[0]):
        reporter.warn(note)
    assessment = Assessment(settings.worst, settings.force_limit)

    def counted() -> Iterator[Compared]:
        columns = [f.name for f in dataclasses.fields(FrameError)]
        rows = csv.DictWriter(table, columns, lineterminator="\n") if table else None
        if rows:
            rows.writeheader()
        for compared in _compared(settings, members, dtype, reporter):
            errors = assessment.add(compared)
            if rows:
                rows.writerows(map(dataclasses.asdict, errors))
            yield compared

    if settings.predictions:
        images = (atoms for compared in counted() for atoms in predicted_atoms(compared))
        write_frames(settings.out / "predictions.extxyz", images, "extxyz")
    else:
        for _ in counted():
            pass
    if not assessment.errors.rows():
        raise LabelError(
            f"no frame of {', '.join(map(str, settings.data))} has energy, forces or stress: "
            "say under which names they are (read.energy_key=...), or use `rutile predict`"
        )
    return assessment


def dimer_curves(settings: EvaluateSettings) -> tuple[list[DimerCurve], tuple[str, ...]]:
    """Curves of two atoms for all pairs of the model's elements, and the names of its calc modes by number.

    Raises:
        ModeError: the model does not know the mode that is asked for.
    """
    import torch

    from rutile.potentials import dimers
    from rutile.potentials.classical import open_model
    from rutile.potentials.combine import mean_potential
    from rutile.potentials.modes import mode_number, modes_of

    dtype = {"float32": torch.float32, "float64": torch.float64}[settings.precision]
    members = open_model(settings.model).raw_members(dtype, settings.device)
    modes = modes_of(members[0])
    asked = range(len(modes)) if settings.mode is None else [mode_number(modes, settings.mode)]
    return dimers.dimer_curves(mean_potential(members), asked), modes


def check_dimers(curves: Sequence[DimerCurve], modes: Sequence[str], reporter: Reporter) -> DimerCheck:
    """What the curves say; warns of pairs with a hole."""
    from rutile.potentials.dimers import CORE, worst_first

    holes = [
        Hole(pair=c.name, mode=modes[c.mode], bond=c.bond, distance=c.hole)
        for c in worst_first(curves)
        if c.hole is not None
    ]
    good = len(curves) - len(holes)
    text = f"dimers: {good} of {len(curves)} pairs repulsive below {CORE:g} bond lengths"
    if holes:
        named = ", ".join(f"{h.pair} at {h.distance:.2f} Å" for h in holes[:5]) + (", ..." if len(holes) > 5 else "")
        reporter.warn(
            f"{text}; not: {named}. Atoms that come so near may fall together: train on frames with close atoms, or "
            "an architecture with core repulsion (potential.zbl=true)"
        )
    else:
        reporter.info(text)
    return DimerCheck(pairs=len(curves), repulsive=good, holes=holes)


def predicted_atoms(compared: Compared) -> Iterator[Atoms]:
    """The frames of a batch with their labels under REF_ names and the prediction in the calculator slot.

    `calc_mode` is the method of the labels; where the prediction is of another one, `predicted_calc_mode` says which.
    """
    import numpy as np
    from ase.calculators.singlepoint import SinglePointCalculator

    from rutile.data.reading import to_atoms

    p, spread = compared.prediction, compared.spread
    ends = np.cumsum([len(f.numbers) for f in compared.frames])
    for k, frame in enumerate(compared.frames):
        part = slice(int(ends[k]) - len(frame.numbers), int(ends[k]))
        atoms = to_atoms(frame)
        if compared.modes and compared.modes[k] not in ("", frame.calc_mode):
            atoms.info["predicted_calc_mode"] = compared.modes[k]
        stress = p.stress[k].double().cpu().numpy()
        results = {"energy": float(p.energy[k]), "forces": p.forces[part].double().cpu().numpy()}
        if frame.pbc.all():
            results["stress"] = stress[VOIGT_ROWS, VOIGT_COLUMNS]
        if spread is not None:
            atoms.info["energy_std"] = float(spread.energy[k])
            atoms.arrays["forces_std"] = spread.forces[part].double().cpu().numpy()
        atoms.calc = SinglePointCalculator(atoms, **results)
        yield atoms


def assessment_sections(assessment: Assessment, calibration: Calibration | None = None) -> list[Section]:
    """What a page says about an assessment, and about the error bars of the model."""
    from rutile.train import sections

    rows = assessment.errors.rows()
    out = [sections.parity_section(assessment), sections.residuals_section(assessment), sections.errors_section(rows)]
    if assessment.worst:
        out.append(sections.worst_section(assessment.worst))
    bars = sections.calibration_section(assessment, calibration)
    return out if bars is None else [*out, bars]


def model_sections(model: Path) -> list[Section]:
    """Learning curves, if the model is the folder of a training run."""
    from rutile.train import sections

    path = model / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        history = list(csv.DictReader(file))
    return [sections.curves_section(history), sections.schedule_section(history)]


def write_metrics(folder: Path, result: EvaluateResult) -> None:
    """metrics.json (all of the result) and metrics.csv (the table of errors)."""
    data = result.model_dump(mode="json")
    write_atomically(folder / "metrics.json", json.dumps(data, indent=1, ensure_ascii=False).encode())
    table = io.StringIO()
    writer = csv.DictWriter(table, list(ErrorRow.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in result.errors)
    write_atomically(folder / "metrics.csv", table.getvalue().encode())


def write_parity(path: Path, assessment: Assessment) -> None:
    """Reference and prediction as a table: quantity, frame (row of frames.csv, from 0), element, reference, predicted.

    Of each quantity the `MOST_PARITY` values with the largest errors, and as many of the others, evenly.
    """
    import numpy as np

    from rutile.core.elements import symbol

    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["quantity", "frame", "element", "reference", "predicted"])
    for quantity, pairs in assessment.residuals.items():
        error, frame, number, reference = pairs.values
        order = np.argsort(-np.abs(error), kind="stable")
        others = np.sort(order[MOST_PARITY:])
        chosen = np.sort(np.concatenate([order[:MOST_PARITY], others[:: max(1, -(-len(others) // MOST_PARITY))]]))
        for k in chosen.tolist():
            of = symbol(int(number[k])) if number[k] else ""
            value, guess = reference[k], reference[k] + error[k]
            writer.writerow([quantity, int(frame[k]), of, f"{value:.9g}", f"{guess:.9g}"])
    write_atomically(path, table.getvalue().encode())


def _compared(
    settings: EvaluateSettings, members: Sequence[Potential], dtype: torch.dtype, reporter: Reporter
) -> Iterator[Compared]:
    from rutile.data.reading import read_frames
    from rutile.train.assess import compare

    frames = reporter.track(read_frames(settings.data, settings.read, reporter), "evaluating")
    return compare(
        members,
        frames,
        atoms_per_batch=settings.batch_atoms,
        dtype=dtype,
        mode=settings.mode,
    )


def _settings_section(settings: EvaluateSettings) -> Section:
    from rutile.potentials.classical import open_model
    from rutile.train import sections

    model = open_model(settings.model)
    parts = {"Evaluation": settings.model_dump(mode="json"), "Model": model.info.model_dump(mode="json")}
    for k, potential in enumerate(model.potentials):
        of = getattr(potential, "settings", None)
        if isinstance(of, Settings):
            parts[f"Potential {k + 1}" if model.committee else "Potential"] = of.model_dump(mode="json")
    return sections.settings_section(parts)


TASK = Task(
    "evaluate",
    EvaluateSettings,
    EvaluateResult,
    run,
    positional="data",
    examples=(
        "rutile evaluate test.extxyz model=run",
        "rutile evaluate a.extxyz b.extxyz model=model.rutile out=errors force_limit=3 predictions=true",
    ),
)
