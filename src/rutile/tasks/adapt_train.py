"""What the worker of an adaptive search does that trains: the next version of the committee, and its errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ase import Atoms

from rutile.active.plan import CommitteeSettings, NewTraining, WarmRetraining
from rutile.build.plan import images
from rutile.core.errors import FileError, RutileError, SettingsError
from rutile.core.executors.executor import Lost
from rutile.core.reporting import PartReporter, SilentReporter
from rutile.core.seeds import integer
from rutile.search.adaptive_items import Errors, Lesson, Trained
from rutile.structures.io import write_frames
from rutile.tasks.committee_training import CommitteeData, compared, errors_on, train_committee

LOG_FILE = "log.txt"
T = TypeVar("T")


@dataclass(frozen=True)
class Teacher:
    """Trains versions; goes on with one that was stopped."""

    folder: Path
    """Of the search; each version gets a folder in it."""
    committee: CommitteeSettings
    how: WarmRetraining | NewTraining
    initial: Path | None
    """File of the labelled structures that were given at the beginning."""
    seed: int
    pressure: float
    """eV/Angstrom^3; energies are enthalpies under it."""

    def __call__(self, lesson: Lesson) -> Trained | Lost:
        """The version of a lesson; where it cannot be trained, and there is an older one, why there is none.

        Raises:
            RutileError: the first one cannot be trained, settings are wrong, or files cannot be written.
        """
        try:
            return self._trained(lesson)
        except SearchEndedError:
            return Lost("the search ended while it was trained")
        except (SettingsError, FileError):
            raise
        except RutileError as error:
            if not lesson.model:
                raise
            return Trained("", 0, failure=" ".join(str(error).split()))

    def _trained(self, lesson: Lesson) -> Trained:
        place = self.folder / version_name(lesson.version)
        place.mkdir(exist_ok=True)
        stop_file(self.folder, lesson.version).unlink(missing_ok=True)
        new, old, valid = self._files(lesson, place)
        reporter = PartReporter(_Stopped(stop_file(self.folder, lesson.version)), place / LOG_FILE)
        reporter.part = place.name
        seed = integer(self.seed, "version", lesson.version) % 2**31
        start = None if lesson.start is None else self.folder / lesson.model
        done = train_committee(
            self.committee,
            self.how,
            CommitteeData(new, old, valid),
            seed,
            start,
            place / "model",
            reporter,
            report=False,
        )
        before = self.folder / lesson.model if lesson.model else None
        known, fresh = self._known(lesson, place)
        return Trained(
            model=str(done.model.relative_to(self.folder)),
            frames=sum(1 for path in (*new, *old) for _ in images(path)),
            old_before=self._errors(before, known), old_after=self._errors(done.model, known),
            new_before=self._errors(before, fresh), new_after=self._errors(done.model, fresh),
            energies=self._energies(done.model, lesson),
        )  # fmt: skip

    def _files(self, lesson: Lesson, place: Path) -> tuple[list[Path], list[Path], list[Path]]:
        """Files of frames to be learned, of those to be replayed, and of those for validation."""
        numbered = list(zip((*lesson.new, *lesson.old), lesson.frames, strict=True))
        given = list(enumerate(images(self.initial))) if self.initial is not None else []
        parts = {
            "new": [a for n, a in numbered[: len(lesson.new)] if not self._validates(n)],
            "old": [a for n, a in numbered[len(lesson.new) :] if not self._validates(n)],
            "valid": [a for n, a in numbered if self._validates(n)] + [a for n, a in given if self._validates(n)],
        }
        parts["new" if not lesson.model else "old"] += [a for n, a in given if not self._validates(n)]
        if not parts["new"]:  # all new ones are for validation
            parts["new"], parts["old"] = parts["old"], []
        return tuple(_written(place / f"{name}.extxyz", frames) for name, frames in parts.items())  # type: ignore[return-value]

    def _known(self, lesson: Lesson, place: Path) -> tuple[list[Path], list[Path]]:
        """Files of all structures that were learned before, and of all new ones."""
        frames = lesson.frames[len(lesson.new) :]
        old = _written(place / "known.extxyz", frames)
        if self.initial is not None and lesson.model:
            old.append(self.initial)
        return old, _written(place / "fresh.extxyz", lesson.frames[: len(lesson.new)])

    def _validates(self, number: int) -> bool:
        """Whether a label is never trained on: every so many-th."""
        every = max(2, round(1 / self.committee.valid))
        return number % every == every - 1

    def _errors(self, model: Path | None, files: Sequence[Path]) -> Errors:
        if model is None or not files:
            return Errors()
        found = errors_on(compared(model, files, self.committee.device, SilentReporter()))
        return Errors(found.get("energy_rmse", float("nan")), found.get("force_rmse", float("nan")))

    def _energies(self, model: Path, lesson: Lesson) -> tuple[tuple[int, float], ...]:
        """Energies of all labelled structures by a version (eV/atom)."""
        if not lesson.all:
            return ()
        path = _written(self.folder / version_name(lesson.version) / "all.extxyz", [a for _, a in lesson.all])
        out: list[float] = []
        for part in compared(model, path, self.committee.device, SilentReporter()):
            for frame, energy in zip(part.frames, part.prediction.energy.tolist(), strict=True):
                atoms = frame.structures().to_ase()[0]
                volume = atoms.cell.volume if self.pressure else 0.0
                out.append((energy + self.pressure * volume) / len(atoms))
        return tuple((n, e) for (n, _), e in zip(lesson.all, out, strict=True))


class SearchEndedError(Exception):
    """Nobody wants the version any more."""


class _Stopped(SilentReporter):
    """Ends a training when there is a file that says so."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Looks before each item."""
        for item in super().track(items, label, total):
            if self.file.exists():
                raise SearchEndedError
            yield item


def stop_file(folder: Path, version: int) -> Path:
    """The file that ends the training of a version, whoever trains it; a training that begins removes it."""
    return folder / version_name(version) / "stop"


def version_name(number: int) -> str:
    """Folder of a version."""
    return f"version-{number:03d}"


def _written(path: Path, frames: Sequence[Atoms]) -> list[Path]:
    """The file, if there is something to write."""
    if not frames:
        return []
    write_frames(path, list(frames))
    return [path]
