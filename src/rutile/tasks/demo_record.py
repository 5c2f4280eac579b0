"""What `rutile demo` did, written down for the platform: `rutile serve adopt=[demo]` shows it as jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rutile.core.files import write_atomically
from rutile.core.settings import Result, Settings

RECORD = "jobs.json"


@dataclass(frozen=True)
class DoneTask:
    """One task that was done."""

    task: str
    settings: Settings
    result: Result
    files: Sequence[str]
    """What it wrote, within the folder."""
    times: Sequence[float]
    """When it began and ended (s since 1970)."""
    metrics: str = ""
    """A table of its curves, within the folder."""


def write_record(out: Path, files: Mapping[str, Path], provenance: Mapping[str, Any], done: Sequence[DoneTask]) -> None:
    """Write `jobs.json` (its form: `rutile.jobs.adopt`).

    Args:
        out: folder of all that was done, as the settings name it.
        files: data sets in it, by name.
        provenance: of the data.
        done: in order.
    """
    names = {"description": "what", "licence": "licence", "source": "made_by"}
    about = {name: str(provenance.get(key, "")) for name, key in names.items()}
    record = {
        "folder": str(out),
        "datasets": [{"name": f"TiO2, {part}", "file": path.name} | about for part, path in files.items()],
        "jobs": [
            {
                "task": one.task, "name": f"demo: {one.task}", "files": list(one.files), "metrics": one.metrics,
                "settings": one.settings.model_dump(mode="json", exclude_unset=True),
                "result": one.result.model_dump(mode="json"), "started": one.times[0], "ended": one.times[1],
            }
            for one in done
        ],
    }  # fmt: skip
    write_atomically(out / RECORD, (json.dumps(record, indent=1) + "\n").encode())
