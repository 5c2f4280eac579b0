"""Structures that a potential would have to extrapolate to, said before a job is submitted."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from rutile.core.elements import symbol
from rutile.core.errors import RutileError
from rutile.jobs.home import Home
from rutile.jobs.references import Input
from rutile.potentials.settings.stored import MODEL_FILE, stored_surroundings
from rutile.server.frames import shelf_of
from rutile.structures.surroundings import Surroundings

MOST_BYTES = 5_000_000
"""Of a file that is looked at while somebody fills a form."""
MOST_FRAMES = 20
MOST_ATOMS = 20_000
"""Of a structure that is looked at."""
OF_STRUCTURES = ("structure", "job", "upload")
"""Kinds of references that may be structures to be computed; data sets are what potentials learn from."""


def unlike_training(home: Home, inputs: Sequence[Input]) -> Iterator[str]:
    """One line for each input with structures unlike those that a potential among the inputs was trained on.

    Args:
        home: of the platform.
        inputs: what the settings of a job name; the first frames of small files are looked at.
    """
    met = [found for one in inputs if (found := _trained_on(Path(one.source))) is not None]
    for one in inputs if met else ():
        path = Path(one.source)
        if one.reference.partition(":")[0] in OF_STRUCTURES and path.is_file() and path.stat().st_size <= MOST_BYTES:
            for known in met:
                if text := _strange(home, path, known):
                    yield f"{one.setting}: {one.name}: {text}"


def _trained_on(path: Path) -> Surroundings | None:
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file() or file.suffix != ".rutile":
        return None
    return _read(file, file.stat().st_mtime_ns)


@functools.lru_cache(64)
def _read(file: Path, _changed: int) -> Surroundings | None:
    return stored_surroundings(file)


def _strange(home: Home, path: Path, known: Surroundings) -> str:
    """What is strange in the first frames of a file but for elements, of which others warn; "": nothing."""
    try:
        shelf = shelf_of(home, path)
    except RutileError:
        return ""
    looked = [shelf.frame(k) for k in range(min(len(shelf), MOST_FRAMES))]
    texts = [
        known.strange(one).text
        for one in looked
        if len(one.numbers) <= MOST_ATOMS and {symbol(z) for z in set(one.numbers.tolist())} <= known.elements
    ]
    strange = [text for text in texts if text]
    more = f"; and so in {len(strange) - 1} more of its first {len(looked)} structures" if len(strange) > 1 else ""
    return strange[0] + more if strange else ""
