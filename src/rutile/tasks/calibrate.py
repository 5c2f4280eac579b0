"""`rutile calibrate`: error bars with a stated coverage from the spread of a committee, checked on other frames."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rutile.core.errors import LabelError, ModelFileError, SettingsError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.core.units import EVPerAngstrom, EVPerAtom
from rutile.data.settings import ReadSettings, SplitSettings
from rutile.tasks.past_run import past_run
from rutile.tasks.task import Task
from rutile.train.calibration import BinCheck, LevelCheck, QuantityCheck

if TYPE_CHECKING:
    import numpy as np

    from rutile.data.store import Store
    from rutile.potentials.calibration import ModeBars
    from rutile.potentials.model import Model
    from rutile.potentials.potential import Potential
    from rutile.train.calibration import Checked, Scores

REMEDY = "train with members=4 (a committee) or architecture=anatase potential.heads=8 (one network with several heads)"
UNLIKELY = 3.0
"""Coverages that are so many standard deviations off are reported."""
UNEVEN = 0.1
"""A coverage that is so much lower for values of one spread than for all is reported."""
UNINFORMATIVE = 0.1
"""Rank correlation of error and spread below which the spread says little."""


class CalibrateSettings(Settings):
    """Which model to calibrate on what."""

    model: Path
    """Model file, or the folder of a training run; a committee, or a potential with several heads."""
    data: list[Path] = []
    """Files with labelled structures that the model was not trained on. Without them, if the model lies in the folder
    of its training run: the validation frames of that run, and for the test its test frames, if it had any."""
    test: list[Path] = []
    """Files with other labelled structures, on which the coverage is measured. Without them a part of the data is held
    out for that; frames of one geometry stay together."""
    test_fraction: float = Field(default=0.5, gt=0, lt=1)
    """Fraction of the frames held out, where no test files are given."""
    by: Literal["frames", "groups", "stratified"] = "frames"
    """How frames are held out. frames: at random. groups: frames of one group (read.group_key) all on one side, as for
    snapshots of one trajectory. stratified: every group is divided in the same proportion."""
    coverage: float = Field(default=0.9, gt=0, lt=1)
    """Fraction of the reference values that shall lie within the error bars."""
    read: ReadSettings = ReadSettings()
    """How to read the files."""
    out: Path = Path("calibration")
    """Folder for report.html and calibration.json."""
    save: Path | None = None
    """File for the calibrated model; without it the error bars are added to the model file itself. Predictions stay as
    they are."""
    large_force_error: EVPerAngstrom | None = Field(default=None, gt=0)
    """Errors of a force above this are large ones, which a large spread should find (AUROC); without it the largest
    tenth."""
    large_energy_error: EVPerAtom | None = Field(default=None, gt=0)
    """The same of an energy per atom."""
    seed: int = 0
    """Which frames are held out."""
    batch_atoms: int = Field(default=2000, ge=1)
    """Evaluate about so many atoms at once; more needs more memory."""
    precision: Literal["float32", "float64"] = "float64"
    """Precision of the arithmetic."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, or auto: a GPU if there is one."""
    mode: str | None = None
    """Predict all structures in this calc mode. Without it each in the mode that it names, or in the only one of the
    model."""


class CalibrateResult(Result):
    """How good the error bars are, and where the model with them is."""

    model: Path
    """The calibrated model: its calculator, and `rutile predict`, give energy_error and forces_error."""
    report: Path
    """HTML page with the calibration plot."""
    members: int
    """Members, or heads, whose spread was calibrated."""
    energy: QuantityCheck | None
    """Error bars of energies, on the test frames."""
    forces: QuantityCheck | None
    """Error bars of forces, on the test frames."""
    modes: dict[str, list[QuantityCheck]] = {}
    """The error bars of calc modes that have their own, on test frames of the mode."""
    levels: list[LevelCheck]
    """Measured coverage at several levels."""
    bins: list[BinCheck]
    """Errors by spread, from the smallest spread to the largest."""
    warnings: list[str] = []
    """What is doubtful."""


def run(settings: CalibrateSettings, reporter: Reporter) -> CalibrateResult:
    """Turn the spread of a committee, or of heads, into error bars with a stated coverage; check it on other frames."""
    with folder_for_results(settings.out):
        return _calibrate(settings, reporter)


def _calibrate(settings: CalibrateSettings, reporter: Reporter) -> CalibrateResult:
    """The work of `run`, in a folder that exists."""
    import torch

    from rutile.potentials.calibration import Calibration
    from rutile.potentials.model import PRECISIONS
    from rutile.potentials.save import load_model
    from rutile.potentials.settings.stored import MODEL_FILE
    from rutile.train import calibration

    path = settings.model / MODEL_FILE if settings.model.is_dir() else settings.model
    model = load_model(path)
    dtype = PRECISIONS[settings.precision] or torch.float64
    members = model.raw_members(dtype, settings.device)
    if len(members) < 2:
        raise ModelFileError(f"{path} is a single potential without spread, there is nothing to calibrate: {REMEDY}")
    warnings: list[str] = []
    with tempfile.TemporaryDirectory(dir=settings.out, prefix=".frames-") as folder:
        stores, sides = _frames(settings, path, model, Path(folder), reporter)
        warnings += _seen_before(path, model, stores, sides)
        of_modes, tests = (
            _scores(settings, members, dtype, stores[s], sides[s], s, reporter) for s in ("data", "test")
        )
        data = stores["data"].hash
    fitted, test = calibration.merged(of_modes.values()), calibration.merged(tests.values())
    if not fitted:
        raise LabelError(
            f"no validation frame of {', '.join(map(str, settings.data or [path.parent]))} has an energy or forces: "
            "say under which names they are (read.energy_key=..., read.forces_key=...)"
        )
    if missing := sorted(fitted.keys() - test.keys()):
        raise LabelError(f"no test frame has a label of: {', '.join(missing)}; give test files that have (test=...)")
    bars = {name: calibration.fit(scores, settings.coverage, name) for name, scores in fitted.items()}
    limits = {"energy": settings.large_energy_error, "force": settings.large_force_error}
    checks = {
        name: calibration.check(name, fitted[name], test[name], bars[name], settings.coverage, limits[name])
        for name in bars
    }
    for checked in checks.values():
        warnings += _doubts(checked)
    by_mode = _mode_bars(settings, of_modes, tests, warnings) if len(model.modes) > 1 and not settings.mode else {}
    model.calibration = Calibration(
        coverage=settings.coverage,
        members=len(members),
        energy=bars.get("energy"),
        forces=bars.get("force"),
        data=data,
        measured={name: checked.summary.measured for name, checked in checks.items()},
        by_mode={mode: bars for mode, (bars, _) in by_mode.items()},
    )
    modes = {mode: summaries for mode, (_, summaries) in by_mode.items()}
    return _finish(settings, path, model, checks, modes, warnings, reporter)


def _mode_bars(
    settings: CalibrateSettings,
    fitted: dict[str, dict[str, Scores]],
    test: dict[str, dict[str, Scores]],
    warnings: list[str],
) -> dict[str, tuple[ModeBars, list[QuantityCheck]]]:
    """Error bars of each calc mode that has enough validation frames, and how good they are on its test frames."""
    from rutile.potentials.calibration import ModeBars
    from rutile.train import calibration

    enough = calibration.frames_to_rely_on(settings.coverage)
    out = {}
    for mode, scores in fitted.items():
        own, checks = {}, []
        for name, found in scores.items():
            if found.frames < enough:
                warnings.append(
                    f"{mode}: {found.frames} validation frames with {name} labels are few (below {enough}): there the "
                    f"{name} error bars are those of all calc modes together"
                )
                continue
            own[name] = calibration.fit(found, settings.coverage, name)
            if name in test.get(mode, {}):
                checked = calibration.check(name, found, test[mode][name], own[name], settings.coverage)
                warnings += [f"{mode}: {text}" for text in _doubts(checked)]
                checks.append(checked.summary)
            else:
                warnings.append(f"{mode}: no test frame has a label of {name}: its coverage is not measured")
        measured = {s.quantity: s.measured for s in checks}
        if own:
            out[mode] = ModeBars(energy=own.get("energy"), forces=own.get("force"), measured=measured), checks
    return out


def _finish(
    settings: CalibrateSettings,
    path: Path,
    model: Model,
    checks: dict[str, Checked],
    modes: dict[str, list[QuantityCheck]],
    warnings: list[str],
    reporter: Reporter,
) -> CalibrateResult:
    """Write model, page and numbers; say what is doubtful."""
    from rutile.train import sections
    from rutile.train.calibration_page import calibration_cards, calibration_sections, percent
    from rutile.train.report import render

    calibration = model.calibration
    assert calibration is not None
    result = CalibrateResult(
        model=settings.save or path,
        report=settings.out / "report.html",
        members=calibration.members,
        energy=checks["energy"].summary if "energy" in checks else None,
        forces=checks["force"].summary if "force" in checks else None,
        modes=modes,
        levels=[level for checked in checks.values() for level in checked.levels],
        bins=[part for checked in checks.values() for part in checked.bins],
        warnings=warnings,
    )
    parts = {"Settings": settings.model_dump(mode="json"), "Calibration": calibration.model_dump(mode="json")}
    page = render(
        "Calibration",
        f"{path}, spread of {calibration.members} members",
        calibration_cards(checks),
        [*calibration_sections(checks, warnings, modes), sections.settings_section(parts)],
    )
    model.save(result.model)
    numbers = json.dumps(result.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_atomically(settings.out / "calibration.json", numbers.encode())
    write_atomically(result.report, page.encode())
    for text in warnings:
        reporter.warn(text)
    summaries = [("", checked.summary) for checked in checks.values()]
    for mode, s in [*summaries, *((f"{mode}: ", s) for mode, found in modes.items() for s in found)]:
        reporter.info(
            f"{mode}{s.quantity}: {percent(s.measured)} of the test values within error bars for {percent(s.coverage)} "
            f"(noise of {s.frames} frames: {percent(s.noise)})"
        )
    reporter.info(f"calibrated model: {result.model.resolve()}")
    reporter.info(f"report: {result.report.resolve()}")
    return result


def _frames(
    settings: CalibrateSettings, path: Path, model: Model, folder: Path, reporter: Reporter
) -> tuple[dict[str, Store], dict[str, np.ndarray]]:
    """Stores of "data" and "test" frames (the same one, where no test files are given), and frames of each side.

    Raises:
        SettingsError: no frame is left on a side, or there is no run to take frames from.
    """
    import numpy as np

    from rutile.data.reading import read_frames
    from rutile.data.split import split
    from rutile.data.store import build_store

    if settings.data:
        data = build_store(read_frames(settings.data, settings.read, reporter), folder / "data", reporter)
        ids, tests = np.arange(len(data)), np.zeros(0, np.int64)
    else:
        data, ids, tests = _frames_of_run(path, model)
        reporter.info(f"calibrating on {len(ids)} validation frames of the training run in {path.parent}")
    if settings.test:
        test = build_store(read_frames(settings.test, settings.read, reporter), folder / "test", reporter)
        return {"data": data, "test": test}, {"data": ids, "test": np.arange(len(test))}
    if len(tests):
        return {"data": data, "test": data}, {"data": ids, "test": tests}
    if len(ids) < 2:
        raise SettingsError("one frame is not enough to calibrate and to test: give more, or test files (test=...)")
    others = np.ones(len(data), dtype=bool)
    others[ids] = False
    held = SplitSettings(by=settings.by, valid=0, test=settings.test_fraction)
    halves = split(data, held, settings.seed, reporter, leave_out=others)
    return {"data": data, "test": data}, {"data": halves["train"], "test": halves["test"]}


def _frames_of_run(path: Path, model: Model) -> tuple[Store, np.ndarray, np.ndarray]:
    """Data of the model's training run; numbers of its validation and of its test frames.

    Raises:
        SettingsError: there is no such run, or it had no validation frames.
    """
    run = past_run(path, model.info.training_data)
    if run is None or run.replayed:
        raise SettingsError(
            f"data: name files with labelled structures that {path} was not trained on; they can be left out only "
            "beside the training run of the model, for its validation frames"
        )
    sides = run.sides()
    if not len(sides["valid"]):
        raise SettingsError(f"the training run in {path.parent} had no validation frames: name files (data=...)")
    return run.store, sides["valid"], sides["test"]


def _scores(
    settings: CalibrateSettings,
    members: list[Potential],
    dtype: Any,
    store: Store,
    ids: np.ndarray,
    side: str,
    reporter: Reporter,
) -> dict[str, dict[str, Scores]]:
    """Errors and spreads on some frames of a store, by calc mode."""
    import numpy as np

    from rutile.train.assess import compare
    from rutile.train.calibration import collect

    label = {"data": "validation frames", "test": "test frames"}[side]
    modes = np.array(store.calc_modes, dtype=np.str_)[store.array("mode")[ids]]
    out = {}
    for mode in dict.fromkeys(modes.tolist()):
        mine = ids[modes == mode].tolist()
        frames = reporter.track((store[k] for k in mine), " ".join(filter(None, [label, mode])), len(mine))
        compared = compare(
            members,
            frames,
            atoms_per_batch=settings.batch_atoms,
            dtype=dtype,
            mode=settings.mode,
        )
        out[mode] = collect(compared)
    return out


def _seen_before(path: Path, model: Model, stores: dict[str, Store], sides: dict[str, np.ndarray]) -> list[str]:
    """Sentences about frames that the model was trained on, and about test frames among the validation frames."""
    import numpy as np

    from rutile.data.copies import geometry_hashes

    out = []
    known = {side: geometry_hashes(stores[side])[sides[side]] for side in ("data", "test")}
    if shared := int(np.isin(known["test"], known["data"]).sum()):
        out.append(
            f"{shared} of {len(known['test'])} test frames are among the validation frames: coverage looks better"
        )
    trained = _trained_on(path, model, np.concatenate([known["data"], known["test"]]))
    for side, label in (("data", "validation"), ("test", "test")):
        if trained is None:
            if model.info.training_data and model.info.training_data == stores[side].hash:
                out.append(f"the {label} frames are the model's own training data: its errors are larger elsewhere")
        elif count := int(np.isin(known[side], trained).sum()):
            out.append(
                f"the model was trained on {count} of {len(known[side])} {label} frames: its errors are larger "
                "elsewhere, and error bars from these too short; give frames that it was not trained on"
            )
    return list(dict.fromkeys(out))


def _trained_on(path: Path, model: Model, asked: np.ndarray) -> np.ndarray | None:
    """Hashes of the geometries that the model was trained on, if any of these is among its data.

    None where its training run is not beside it.
    """
    import numpy as np

    from rutile.data.copies import geometry_hashes

    run = past_run(path, model.info.training_data)
    if run is None:
        return None
    hashes = geometry_hashes(run.store)
    return np.asarray(hashes[run.trained_on()]) if np.isin(asked, hashes).any() else np.zeros(0, hashes.dtype)


def _doubts(checked: Checked) -> list[str]:
    """Sentences about what is doubtful of one quantity."""
    from rutile.train.calibration import frames_to_rely_on
    from rutile.train.calibration_page import percent

    s, out = checked.summary, []
    chance = (s.coverage * (1 - s.coverage) / s.fitted) ** 0.5
    if chance > (1 - s.coverage) / 2:
        out.append(
            f"{s.quantity}: {s.fitted} validation frames are few: the coverage may by chance be off by "
            f"{percent(chance)}; {frames_to_rely_on(s.coverage)} or more are better for a coverage of {s.coverage:g}"
        )
    if abs(s.measured - s.coverage) > UNLIKELY * s.noise + 1 / (s.fitted + 1):
        side = "too short" if s.measured < s.coverage else "longer than needed"
        out.append(
            f"{s.quantity}: {percent(s.measured)} of the test values are within error bars for {percent(s.coverage)} "
            f"(noise {percent(s.noise)}): the test frames are unlike the validation frames, error bars are {side} for "
            "them; calibrate on frames like those that you will predict"
        )
    worst = min(checked.bins, key=lambda b: b.measured)
    chance = (s.coverage * (1 - s.coverage) / worst.values) ** 0.5
    if s.measured - worst.measured > max(UNEVEN, 4 * chance):
        out.append(
            f"{s.quantity}: of the values with a spread near {worst.rmv / s.scale:.3g} {s.unit} only "
            f"{percent(worst.measured)} are within their error bars: the error does not grow as the spread does; "
            "error bars hold on average over all spreads"
        )
    if s.spearman < UNINFORMATIVE:
        out.append(
            f"{s.quantity}: error and spread are hardly related (rank correlation {s.spearman:.2f}): error bars hold "
            "on average, but do not tell good predictions from bad ones; more members or heads may help"
        )
    return out


TASK = Task(
    "calibrate",
    CalibrateSettings,
    CalibrateResult,
    run,
    positional="data",
    examples=(
        "rutile calibrate model=run",
        "rutile calibrate valid.extxyz model=run test=test.extxyz coverage=0.95",
        "rutile calibrate valid.extxyz model=model.rutile save=calibrated.rutile by=groups",
    ),
)
