"""What `rutile demo` did, written down for the platform: `rutile serve adopt=[demo]` shows it as jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rutile.core.files import write_atomically
from rutile.core.settings import Result, Settings

RECORD = "jobs.json"


class Diary:
    """Tasks as they are done, one after another."""

    def __init__(self, out: Path) -> None:
        """A diary that begins now.

        Args:
            out: folder of all that is done, as settings name it.
        """
        self.out = out
        self.jobs: list[dict[str, Any]] = []
        self.begin = time.time()

    def goes_on(self) -> None:
        """The next task begins now."""
        self.begin = time.time()

    def did(self, task: str, settings: Settings, result: Result, files: Sequence[str], metrics: str = "") -> None:
        """A task is done.

        Args:
            task: its name.
            settings: with which it was done.
            result: what it returned.
            files: what it wrote, within the folder.
            metrics: a table of its curves, within the folder.
        """
        self.jobs.append(
            {
                "task": task, "name": f"demo: {task}", "files": list(files), "metrics": metrics,
                "settings": settings.model_dump(mode="json", exclude_unset=True),
                "result": result.model_dump(mode="json"), "started": self.begin, "ended": time.time(),
            }
        )  # fmt: skip
        self.goes_on()

    def write(self, files: Mapping[str, Path], provenance: Mapping[str, Any]) -> None:
        """Write `jobs.json` (its form: `rutile.jobs.adopt`).

        Args:
            files: data sets in the folder, by name.
            provenance: of the data.
        """
        names = {"description": "what", "licence": "licence", "source": "made_by"}
        about = {name: str(provenance.get(key, "")) for name, key in names.items()}
        data = [{"name": f"TiO2, {part}", "file": path.name} | about for part, path in files.items()]
        record = {"folder": str(self.out), "datasets": data, "jobs": self.jobs}
        write_atomically(self.out / RECORD, (json.dumps(record, indent=1) + "\n").encode())
