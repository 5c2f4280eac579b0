"""Paths on their way, kept in the folder of results, so that a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rutile.core.errors import FileError
from rutile.core.files import write_atomically
from rutile.tasks.apply import add_structures, model_content

if TYPE_CHECKING:
    import numpy as np

    from rutile.structures.structures import Structures
    from rutile.tasks.property import GivenProperty, Work

FREE = ("max_steps", "keep_every", "out", "device", "check", "on_bad")
"""Settings that may change between two runs."""


class KeptPaths:
    """One file of numbers for all paths; another question (model, structures, atoms that stay, settings) has another.

    Args:
        settings: of the task.
        work: model and structures.
        held: atoms of each path that stay, [atoms] bool.
    """

    def __init__(self, settings: Any, work: Work, held: Sequence[np.ndarray]) -> None:
        self.question = question(settings, work, held, FREE)
        self.path = kept_in(settings.out, self.question)
        self.paths: list[Structures] = []
        self.left_out: dict[int, str] = {}
        """Pairs of ends between which there is no path, and why."""

    def read(self) -> list[Structures] | None:
        """The kept paths of the same question; None: there are none."""
        import torch

        from rutile.structures.structures import Structures

        try:
            content = json.loads(self.path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise FileError(f"cannot read {self.path}: {error}; remove it to begin anew") from None
        if content.get("question") != self.question:
            return None
        self.left_out = {int(k): why for k, why in content.get("left_out", {}).items()}
        self.paths = [
            Structures(
                torch.tensor(p["numbers"]).repeat(len(p["cell"])),
                torch.tensor(p["positions"], dtype=torch.float64),
                torch.tensor(p["cell"], dtype=torch.float64),
                torch.tensor(p["pbc"]).expand(len(p["cell"]), 3),
                torch.arange(len(p["cell"])).repeat_interleave(len(p["numbers"])),
            )
            for p in content["paths"]
        ]
        return self.paths

    def write(self, paths: Sequence[Structures], left_out: dict[int, str] | None = None) -> None:
        """Keep these paths, and why there are no others."""
        self.paths, self.left_out = list(paths), self.left_out if left_out is None else left_out
        content = [
            {
                "numbers": p.numbers[: p.n_atoms // p.n_systems].tolist(),
                "positions": p.positions.tolist(),
                "cell": p.cell.tolist(),
                "pbc": p.pbc[0].tolist(),
            }
            for p in self.paths
        ]
        text = {"question": self.question, "paths": content, "left_out": self.left_out}
        write_atomically(self.path, json.dumps(text).encode())

    def keep(self, number: int, images: Structures) -> None:
        """One path has moved."""
        self.write([images if k == number else p for k, p in enumerate(self.paths)])


def kept_in(folder: Path, asked: str) -> Path:
    """The file of one question, so that another question in the same folder does not write over it."""
    return folder / f"kept-{asked[:8]}.json"


def question(settings: GivenProperty, work: Work, held: Sequence[np.ndarray], free: Collection[str]) -> str:
    """Hash of what decides about the answer.

    Args:
        settings: of the task.
        work: the structures.
        held: atoms that stay, of each structure or path, [atoms] bool.
        free: settings that may change.
    """
    plain = {k: v for k, v in settings.model_dump(mode="json").items() if k not in free}
    found = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    found.update(model_content(settings.model))
    add_structures(found, work.frames)
    for mine in held:
        found.update(mine.tobytes())
    return found.hexdigest()[:32]
