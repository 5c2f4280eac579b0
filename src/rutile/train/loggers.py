"""Where metrics can go besides metrics.csv: TensorBoard, Weights & Biases, MLflow. One class each.

A run that goes on is the same run there: the names that the services gave it are kept in `loggers.json` of its folder.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import textwrap
import time
from pathlib import Path
from typing import Any, Protocol

from rutile.core.errors import MissingPackageError, SettingsError
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter
from rutile.train.settings import MlflowSettings, TrainSettings, WandbSettings

Row = dict[str, float | int | str]
"""Metrics of one epoch; `epoch` counts from 0."""
NAMES_FILE = "loggers.json"
"""Inside the folder of a run: the name that each service gave it."""
LONGEST = 500
"""Characters of a setting that MLflow keeps (older servers refuse longer ones)."""


class Logger(Protocol):
    """Receives the metrics of a run."""

    name: str
    """What it is called in messages."""

    def add(self, row: Row) -> None:
        """Metrics of one epoch."""

    def close(self, *, failed: bool) -> None:
        """The run has ended, by an error or not."""


class TensorBoardLog:
    """Event files in the folder `tensorboard` of the run; epochs from `first` on are replaced."""

    name = "TensorBoard"

    def __init__(self, folder: Path, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first or None)

    def add(self, row: Row) -> None:
        """One scalar for each number."""
        for key, value in numbers(row).items():
            self._writer.add_scalar(key, value, int(row["epoch"]))

    def close(self, *, failed: bool) -> None:
        """Flush and close the file."""
        del failed
        self._writer.close()


class WandbLog:
    """A run of Weights & Biases.

    Args:
        folder: of the run; offline runs are kept in its folder `wandb`.
        settings: project, name, mode.
        config: settings of the training.
        known: name that the service gave the run; None: a new one.

    Raises:
        SettingsError: the run cannot begin, for example without an account.
    """

    name = "Weights & Biases"

    def __init__(self, folder: Path, settings: WandbSettings, config: dict[str, Any], known: str | None) -> None:
        import wandb

        try:
            self._run = wandb.init(
                project=settings.project,
                name=settings.name or str(folder),
                mode=settings.mode,
                id=known,
                resume="allow",
                dir=str(folder),
                config=config,
                settings=wandb.Settings(silent=True, console="off"),
            )
        except Exception as error:
            raise SettingsError(
                f"wandb: {_one_line(error)}; `wandb login` once, or keep the run here with wandb.mode=offline"
            ) from None
        self.known = str(self._run.id)

    def add(self, row: Row) -> None:
        """All numbers at once."""
        self._run.log(numbers(row) | {"epoch": row["epoch"]}, step=int(row["epoch"]))

    def close(self, *, failed: bool) -> None:
        """Send what is left."""
        self._run.finish(exit_code=int(failed))


class MlflowLog:
    """A run of MLflow.

    Args:
        folder: of the run.
        settings: experiment, name, where runs are kept.
        config: settings of the training.
        known: name that the service gave the run; None: a new one.

    Raises:
        SettingsError: the place where runs are kept cannot be used.
    """

    name = "MLflow"

    def __init__(self, folder: Path, settings: MlflowSettings, config: dict[str, Any], known: str | None) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # seven take minutes where no server answers
        if settings.uri is not None and "://" not in settings.uri:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # folders are refused by MLflow 3.7 otherwise
        try:
            from mlflow.tracking import MlflowClient

            for noisy in ("mlflow", "alembic"):
                logging.getLogger(noisy).setLevel(logging.WARNING)
            self._client = MlflowClient(tracking_uri=settings.uri)
            if known is None:
                known = self._begin(settings, folder, config)
            else:
                self._client.update_run(known, status="RUNNING")
        except Exception as error:
            raise SettingsError(
                f"mlflow: {_one_line(error)}; check mlflow.uri or MLFLOW_TRACKING_URI; "
                "mlflow.uri=sqlite:///mlflow.db needs no server"
            ) from None
        self.known = known

    def _begin(self, settings: MlflowSettings, folder: Path, config: dict[str, Any]) -> str:
        """A new run with the settings of the training; its name."""
        experiment = self._client.get_experiment_by_name(settings.experiment)
        number = experiment.experiment_id if experiment else self._client.create_experiment(settings.experiment)
        run = self._client.create_run(number, run_name=settings.name or str(folder))
        for key, value in flat(config).items():
            self._client.log_param(run.info.run_id, key, str(value)[:LONGEST])
        return str(run.info.run_id)

    def add(self, row: Row) -> None:
        """All numbers at once."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        found = [Metric(key, float(value), now, int(row["epoch"])) for key, value in numbers(row).items()]
        self._client.log_batch(self.known, metrics=found)

    def close(self, *, failed: bool) -> None:
        """Say how it ended."""
        self._client.set_terminated(self.known, "FAILED" if failed else "FINISHED")


def require_loggers(settings: TrainSettings) -> None:
    """Say before any work that a package is missing.

    Raises:
        MissingPackageError: a logger is asked for by its own settings and its package is not installed.
    """
    for name, title in (("wandb", WandbLog.name), ("mlflow", MlflowLog.name)):
        if getattr(settings, name) is not None and not installed(name):
            raise MissingPackageError(
                f"{title} needs the package {name}: pip install 'rutile[{name}]', or leave {name}=... out "
                "(metrics.csv has the numbers in any case)"
            )


def make_loggers(
    folder: Path, history: list[Row], settings: TrainSettings, reporter: Reporter, config: dict[str, Any]
) -> list[Logger]:
    """The loggers that the settings ask for.

    Args:
        folder: of the run.
        history: rows of earlier epochs; a service that has not seen the run yet gets them now.
        settings: which.
        reporter: hears that TensorBoard is missing, which is on by default.
        config: settings of the training, nested.

    Raises:
        MissingPackageError, SettingsError: see the classes.
    """
    require_loggers(settings)
    found: list[Logger] = []
    if settings.tensorboard and not installed("tensorboard"):
        reporter.info("no TensorBoard events: the package tensorboard is not installed (metrics.csv has the numbers)")
    elif settings.tensorboard:
        try:
            found.append(TensorBoardLog(folder, len(history)))
        except OSError as error:
            reporter.warn(f"no TensorBoard events: {error.strerror or error} (metrics.csv has the numbers)")
    known = _names(folder / NAMES_FILE) if history else {}
    services: dict[str, WandbLog | MlflowLog] = {}
    if settings.wandb is not None:
        services["wandb"] = WandbLog(folder, settings.wandb, config, known.get("wandb"))
    if settings.mlflow is not None:
        services["mlflow"] = MlflowLog(folder, settings.mlflow, config, known.get("mlflow"))
    for name, logger in services.items():
        for row in history if name not in known else []:
            logger.add(row)
    if services:
        names = known | {name: logger.known for name, logger in services.items()}
        write_atomically(folder / NAMES_FILE, json.dumps(names, indent=1).encode())
    return [*found, *services.values()]


def installed(package: str) -> bool:
    """Whether a package can be imported; a folder of that name in the working directory is none."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def numbers(row: Row) -> dict[str, float]:
    """The numbers of a row besides the epoch."""
    return {key: float(value) for key, value in row.items() if key != "epoch" and not isinstance(value, str)}


def flat(nest: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as "a.b" -> value."""
    out: dict[str, Any] = {}
    for key, value in nest.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def _names(path: Path) -> dict[str, str]:
    """Names that the services gave a run; none where they cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _one_line(error: Exception) -> str:
    return textwrap.shorten((str(error).strip() or type(error).__name__).splitlines()[0].rstrip("."), 200)
