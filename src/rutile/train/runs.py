"""What the folders of training runs say, finished or not: settings, metrics, errors. Nothing is changed in them."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from rutile.core.errors import FileError, RutileError
from rutile.core.files import did_you_mean
from rutile.core.reporting import Reporter
from rutile.potentials.save import load_model
from rutile.potentials.settings.stored import MODEL_FILE
from rutile.train.checkpoint import CHECKPOINT_FILE, read_checkpoint
from rutile.train.log import METRICS_FILE
from rutile.train.loggers import flat

SETTINGS_FILE = "settings.yaml"
PLACES = frozenset({"out", "resume"})
"""Settings that say where a run is, not what it does."""
DIVIDING = ("data", "replay", "read", "split")
"""Settings that choose the structures on which errors are measured."""
LONGEST = 60
"""Characters of a setting that are shown."""
State = Literal["finished", "unfinished", "begun"]


@dataclass(frozen=True)
class TrainingRun:
    """One run."""

    name: str
    """Short name, different for each run of a comparison."""
    folder: Path
    """Where it is."""
    state: State
    """finished: its model is newer than its checkpoint. begun: no epoch has ended."""
    settings: Mapping[str, Any] | None
    """Dotted name -> value; None: not written yet."""
    history: Sequence[Mapping[str, float]] = ()
    """Numbers of metrics.csv for each epoch; of a committee the mean over its members."""
    members: int = 1
    """Members that have begun."""
    seconds: float = 0.0
    """Time in the training loop, all members."""
    parameters: int | None = None
    """Trainable numbers, all members; None: not known yet."""
    errors: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    """(part of the data, quantity, rmse or mae) -> error in eV/atom, eV/Angstrom, eV/Angstrom^3. Without a model those
    of the best validation so far."""

    @property
    def epochs(self) -> int:
        """Complete epochs."""
        return len(self.history)

    @property
    def best(self) -> Mapping[str, float] | None:
        """The epoch of the best validation."""
        scored = [row for row in self.history if np.isfinite(row.get("valid_loss", np.nan))]
        return min(scored, key=lambda row: row["valid_loss"], default=None)

    def median(self, column: str) -> float | None:
        """Median over the epochs of a column of metrics.csv."""
        values = [row[column] for row in self.history if column in row]
        return float(np.median(values)) if values else None


def read_runs(folders: Sequence[Path], reporter: Reporter) -> list[TrainingRun]:
    """The runs in these folders.

    Raises:
        FileError: a folder does not exist, is no folder of a training run, or is given twice.
    """
    seen: dict[Path, Path] = {}
    for folder in folders:
        if folder.resolve() in seen:
            raise FileError(f"{folder} is given twice; name each run once")
        seen[folder.resolve()] = folder
    short = [folder.resolve().name for folder in folders]
    unique = len(set(short)) == len(short)
    return [_read(f, short[k] if unique else str(f).rstrip("/"), reporter) for k, f in enumerate(folders)]


def differing(runs: Sequence[TrainingRun]) -> dict[str, dict[str, str]]:
    """Settings that are not equal in all runs: dotted name -> run -> value as short text ("-" where it has none)."""
    known = {run.name: run.settings for run in runs if run.settings is not None}
    names = list(dict.fromkeys(key for settings in known.values() for key in settings if key not in PLACES))
    found: dict[str, dict[str, str]] = {}
    for name in names:
        values = {run: settings.get(name, ...) for run, settings in known.items()}
        if len({repr(value) for value in values.values()}) > 1:
            found[name] = {run: "–" if value is ... else short_text(value) for run, value in values.items()}
    return found


def comparable(runs: Sequence[TrainingRun]) -> bool:
    """Whether the settings say that errors were measured on the same structures (files are taken to be unchanged)."""
    known = [run.settings for run in runs if run.settings is not None]
    different = {key for key in differing(runs) if key.split(".")[0] in DIVIDING}
    if any(settings.get("seed") != known[0].get("seed") for settings in known):  # the seed draws the validation set
        different |= {"seed"} if any(not settings.get("split.valid_files") for settings in known) else set()
    return not different


def short_text(value: Any) -> str:
    """A setting in few characters; long values keep their beginning and a mark that tells them apart."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = ", ".join(map(short_text, value)) if isinstance(value, list) else str(value)
    if len(text) <= LONGEST:
        return text if text else "(none)"
    return f"{text[: LONGEST - 10]}… #{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _read(folder: Path, name: str, reporter: Reporter) -> TrainingRun:
    """One run.

    Raises:
        FileError: see `read_runs`.
    """
    if not folder.exists():
        raise FileError(f"{folder}: no such folder{did_you_mean(folder)}; give what `rutile train out=...` wrote")
    settings_file, begun = folder / SETTINGS_FILE, (folder / "store").is_dir()
    if not folder.is_dir() or not (settings_file.is_file() or begun):
        raise FileError(f"{folder} is no folder of a training run (no {SETTINGS_FILE}); give what `rutile train` wrote")
    settings = _settings(settings_file) if settings_file.is_file() else None
    parts = [folder] if (folder / METRICS_FILE).exists() else sorted(folder.glob("member-*"), key=_number)
    histories = [h for h in map(_history, parts) if h]
    if not histories:
        return TrainingRun(name, folder, "begun", settings)
    history = _mean(histories)
    run = TrainingRun(name, folder, "unfinished", settings, history, len(histories),
                      sum(h[-1].get("seconds", 0.0) for h in histories))  # fmt: skip
    model = folder / MODEL_FILE
    checkpoints = [part / CHECKPOINT_FILE for part in parts if (part / CHECKPOINT_FILE).exists()]
    finished = model.exists() and all(c.stat().st_mtime <= model.stat().st_mtime for c in checkpoints)
    try:
        return _finished(run, model) if finished else _so_far(run, checkpoints)
    except RutileError as error:
        reporter.warn(f"{name}: {error}")
        return run


def _finished(run: TrainingRun, path: Path) -> TrainingRun:
    """The run with what its model says."""
    model = load_model(path)
    errors: dict[tuple[str, str, str], float] = {}
    for part, values in model.info.metrics.items():
        for key, value in values.items() if isinstance(values, dict) else ():
            quantity, _, kind = key.rpartition("_")
            if isinstance(value, int | float) and kind in ("rmse", "mae"):
                errors[part, quantity, kind] = float(value)
    count = sum(p.numel() for potential in model.potentials for p in potential.parameters())
    return TrainingRun(
        run.name, run.folder, "finished", run.settings, run.history, run.members, run.seconds, count, errors
    )


def _so_far(run: TrainingRun, checkpoints: Sequence[Path]) -> TrainingRun:
    """The run with the errors of its best validation and the size of its potentials."""
    best = run.best or {}
    errors = {("valid", q, "rmse"): best[f"valid_{q}_rmse"] for q in ("energy", "force") if f"valid_{q}_rmse" in best}
    count = 0
    for checkpoint in checkpoints:
        state = read_checkpoint(checkpoint)
        weights = state["best"]["weights"] or (state["average"] or {}).get("weights", [])
        count += sum(int(w.numel()) for w in weights)
    return TrainingRun(
        run.name, run.folder, run.state, run.settings, run.history, run.members, run.seconds, count or None, errors
    )


def _settings(path: Path) -> dict[str, Any]:
    """Settings as they were written, by dotted name; also of older versions of rutile."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        raise FileError(f"{path}: not the settings of a training run; restore it, or leave this run out") from None
    if not isinstance(tree, dict):
        raise FileError(f"{path}: not the settings of a training run; restore it, or leave this run out")
    return flat({str(key): value for key, value in tree.items()})


def _history(folder: Path) -> list[dict[str, float]]:
    """Numbers of each complete line of metrics.csv; a run may be writing the last one."""
    path = folder / METRICS_FILE
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        whole = [row for row in csv.DictReader(file) if None not in row and None not in row.values()]
    rows = [{key: float(value) for key, value in row.items() if _is_number(value)} for row in whole]
    return [row for row in rows if "epoch" in row]


def _mean(histories: Sequence[list[dict[str, float]]]) -> list[dict[str, float]]:
    """Mean over members, epoch by epoch, as far as the first has come."""
    out = []
    for k, first in enumerate(histories[0]):
        rows = [h[k] for h in histories if len(h) > k]
        out.append({key: float(np.mean([row[key] for row in rows if key in row])) for key in first})
    return out


def _number(folder: Path) -> int:
    digits = folder.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
