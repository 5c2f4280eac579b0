"""Dividing frames into training, validation and test sets: by seed, by group, stratified, or by file.

The result depends on the content of the store, the settings and the seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rutile.core.errors import SettingsError
from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.seeds import stream
from rutile.data.copies import connected, duplicate_classes
from rutile.data.kept import kept
from rutile.data.settings import SplitSettings
from rutile.data.store import Store
from rutile.structures.io import expand

SIDES = ("train", "valid", "test")
ORDERS = 64
"""Random orders that are tried at most."""


def split(
    store: Store,
    settings: SplitSettings,
    seed: int,
    reporter: Reporter | None = None,
    leave_out: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Frame numbers of "train", "valid" and "test", each ascending int64; every frame is on exactly one side.

    Args:
        store: the frames.
        settings: how.
        seed: of the order.
        reporter: hears of geometries on several sides.
        leave_out: frames that are on no side, [F] bool.

    Raises:
        SettingsError: a side would be empty, or a file of the settings has no frames in the store.
    """
    reporter = reporter or SilentReporter()
    side = _sides_of_files(store, settings)
    valid = 0.0 if settings.valid_files else settings.valid
    test = 0.0 if settings.test_files else settings.test
    fractions = np.array([1 - valid - test, valid, test])
    together = settings.duplicates == "together"
    copies = kept(store, "copies", lambda: duplicate_classes(store, reporter)) if together else np.arange(len(store))
    free = np.flatnonzero((side < 0) if leave_out is None else (side < 0) & ~leave_out)

    def dealt() -> np.ndarray:
        groups = store.array("group")[free].astype(np.int64)
        units = copies[free] if settings.by != "groups" else connected([groups, copies[free]])
        strata = groups if settings.by == "stratified" else np.zeros(len(free), np.int64)
        out = side.copy()
        out[free] = divide(units, strata, fractions, stream(seed, "split"))
        return out

    side = kept(store, "sides", dealt, settings.model_dump(mode="json"), seed) if leave_out is None else dealt()
    _report_shared(side, copies, reporter)
    out = {name: np.flatnonzero(side == k) for k, name in enumerate(SIDES)}
    wanted = (True, bool(settings.valid_files) or settings.valid > 0, bool(settings.test_files) or settings.test > 0)
    for name, needed in zip(SIDES, wanted, strict=True):
        if needed and len(out[name]) == 0:
            raise SettingsError(_empty(name, settings, len(store)))
    return out


def divide(units: np.ndarray, strata: np.ndarray, fractions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Side of each frame, [F] int64, so that frames of one unit stay together and shares come close to `fractions`.

    Units are visited stratum by stratum, in random order inside one; each goes to the side that lacks most of its
    share so far. The lack is carried on, so that a stratum's shares are right to about one unit and so are the totals.
    Where units are few and large, a few random orders are tried until no side lacks half of the smallest share.

    Args:
        units: label of the unit of each frame, [F].
        strata: label of the stratum of each frame, [F]; a unit belongs to the stratum of its first frame.
        fractions: share of each side, [n sides], sum 1.
        rng: orders the units.
    """
    if len(units) == 0:
        return np.zeros(0, np.int64)
    _, first, index, sizes = np.unique(units, return_index=True, return_inverse=True, return_counts=True)
    tolerance = 0.5 * len(units) * fractions[fractions > 0].min()
    best, least = np.zeros(0, np.int64), np.inf
    for _ in range(ORDERS):
        order = np.lexsort((rng.permutation(len(first)), strata[first]))
        sides, lack = _deal(sizes[order].tolist(), fractions.tolist())
        if lack < least:
            best, least = np.empty(len(first), np.int64), lack
            best[order] = sides
        if least <= tolerance:
            break
    return best[index]


def _deal(sizes: list[int], fractions: list[float]) -> tuple[list[int], float]:
    """Side of each unit, visited in order: the one that lacks most of its share; and the largest lack at the end."""
    lack = [0.0] * len(fractions)
    open_sides = [k for k, f in enumerate(fractions) if f > 0]
    out = []
    for size in sizes:
        for k in open_sides:
            lack[k] += fractions[k] * size
        side = max(open_sides, key=lack.__getitem__)
        lack[side] -= size
        out.append(side)
    return out, max(abs(x) for x in lack)


def _sides_of_files(store: Store, settings: SplitSettings) -> np.ndarray:
    """Side of each frame that the files decide, [F]; -1 elsewhere."""
    side = np.full(len(store), -1, np.int64)
    if not (settings.valid_files or settings.test_files):
        return side
    files = _files(store)
    for number, name in ((1, "valid_files"), (2, "test_files")):
        for path in getattr(settings, name):
            here = files == _resolved(path)
            if not here.any():
                raise SettingsError(f"{name}: {path} has no frames in the data; list it among the data files too")
            side[here] = number
    return side


def from_files(store: Store, paths: Sequence[Path]) -> np.ndarray:
    """Whether each frame comes from one of these files, folders or patterns, [F] bool."""
    wanted = {_resolved(path) for path in expand(paths)}
    return np.isin(_files(store), sorted(wanted)) if wanted else np.zeros(len(store), dtype=bool)


def _files(store: Store) -> np.ndarray:
    """Resolved path of the file of each frame, [F] str."""
    resolved: dict[str, str] = {}
    names = (store.source(k).rpartition("#")[0] for k in range(len(store)))
    return np.array([resolved.get(name) or resolved.setdefault(name, _resolved(name)) for name in names])


def _resolved(path: Path | str) -> str:
    return str(Path(path).resolve())


def _report_shared(side: np.ndarray, copies: np.ndarray, reporter: Reporter) -> None:
    """Warn of geometries that stand on several sides (only given files can do that)."""
    for k, name in ((1, "validation"), (2, "test")):
        shared = int(np.isin(copies[side == k], copies[side == 0]).sum())
        if shared:
            reporter.warn(
                f"{shared} {name} frames have the same geometry as training frames; errors will look too small"
            )


def _empty(name: str, settings: SplitSettings, n: int) -> str:
    unit = {"frames": "frames", "stratified": "frames", "groups": "groups"}[settings.by]
    return (
        f"split: no frames left for {name} out of {n} (by {settings.by}, valid={settings.valid:g}, "
        f"test={settings.test:g}); there are too few {unit} of different geometry: change the fractions or the rule"
    )
