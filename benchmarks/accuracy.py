"""Train with the normal task, evaluate with the normal task, and write the errors beside published ones.

Shared by accuracy_tio2_aenet.py and accuracy_mlearn.py; does nothing when run itself.
"""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rutile.cli.terminal import RichReporter
from rutile.core.config import load
from rutile.core.errors import RutileError
from rutile.structures.io import iterate, write_frames
from rutile.tasks import evaluate, train

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
EXAMPLES = HERE.parent / "examples"
SHARED = HERE.parent.parent / "shared" / "data"


def one_line_errors(main: Callable[[list[str]], None], words: list[str]) -> None:
    """Run a benchmark; what its input is at fault for ends it with one line and exit code 2."""
    try:
        main(words)
    except RutileError as error:
        print(f"error: {error} (the folder of the data set can be given as the first word)", file=sys.stderr)
        sys.exit(2)


def train_and_evaluate(
    job: Path, pairs: Sequence[str], test: Path, out: Path, force_limit: float | None = None
) -> dict[str, Any]:
    """Errors of the job's potential on `test`, with the time that training took.

    Args:
        job: YAML file of the train task.
        pairs: changes, `key=value`.
        test: labelled structures.
        out: folder of the run.
        force_limit: report frames with all |F| below this (eV/Angstrom) apart.
    """
    began, used = time.monotonic(), _cpu_seconds()
    with RichReporter() as reporter:
        settings = load(train.TrainTaskSettings, [job], [*pairs, f"out={out}"])
        trained = train.run(settings, reporter)
        wall, cpu = time.monotonic() - began, _cpu_seconds() - used
        found = evaluate.run(
            evaluate.EvaluateSettings(
                model=trained.model, data=[test], read=settings.read, out=out / "evaluation", force_limit=force_limit
            ),
            reporter,
        )
    return {
        "code": _version(),
        "machine": f"{platform.machine()}, {_threads()} threads",
        "errors": [row.model_dump() for row in found.errors if row.subset in ("all", "limit")],
        "frames": found.frames,
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "stopped": trained.stopped,
        "training_wall_seconds": round(wall, 1),
        "training_cpu_seconds": round(cpu, 1),
        "settings": settings.model_dump(mode="json", exclude={"data", "out", "split"}),
    }


def errors_without_copies(model: Path, train_file: Path, test_file: Path, out: Path) -> dict[str, Any]:
    """Errors on the test frames whose energy is not that of a training frame to 1e-4 eV (copies by symmetry are)."""
    seen = [atoms.get_potential_energy() for atoms in iterate(train_file)]
    kept = [a for a in iterate(test_file) if min(abs(a.get_potential_energy() - e) for e in seen) > 1e-4]
    path = out / "test_without_copies.extxyz"
    write_frames(path, kept)
    with RichReporter() as reporter:
        found = evaluate.run(
            evaluate.EvaluateSettings(model=model, data=[path], out=out / "evaluation_without_copies"), reporter
        )
    rows = [row.model_dump() for row in found.errors if row.subset == "all"]
    return {"frames": found.frames, "errors": rows}


def error(result: dict[str, Any], quantity: str, kind: str, unit: str, frames: str = "all") -> float:
    """One error of a result."""
    return next(
        float(row[kind])
        for row in result["errors"]
        if (row["quantity"], row["unit"], row["name"]) == (quantity, unit, frames)
    )


def write(name: str, results: dict[str, Any], table: str) -> None:
    """results/NAME.json and results/NAME.md."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (RESULTS / f"{name}.md").write_text(f"{table}\nWritten by benchmarks/{name}.py.\n")
    with RichReporter() as reporter:
        reporter.info(table)


def _version() -> str:
    """Commit of the code, marked where sources or jobs differ from it (results may: this writes them)."""
    describe = ["git", "describe", "--always", "--tags"]
    done = subprocess.run(describe, cwd=HERE, capture_output=True, text=True, check=False)
    changed = ["git", "status", "--porcelain", "--", "../src", "../examples", "*.py"]
    dirty = subprocess.run(changed, cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()
    return (done.stdout.strip() or "unknown") + ("-dirty" if dirty else "")


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _cpu_seconds() -> float:
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime
