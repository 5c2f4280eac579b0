"""Where the platform keeps its files: one folder, open to nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rutile.core.errors import FileError


@dataclass(frozen=True)
class Home:
    """The folder of the platform."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Home:
        """Make what is missing.

        Raises:
            FileError: it cannot be made.
        """
        home = cls(folder.expanduser().absolute())
        try:
            for place in (
                home.folder,
                home.jobs,
                home.datasets,
                home.models,
                home.structures,
                home.uploads,
                home.cache,
            ):
                place.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise FileError(f"cannot make {error.filename}: {error.strerror}; choose another home=...") from None
        return home

    @property
    def rooms(self) -> tuple[Path, ...]:
        """Its folders."""
        return self.jobs, self.datasets, self.models, self.structures, self.uploads, self.cache

    @property
    def jobs(self) -> Path:
        """A folder for each job."""
        return self.folder / "jobs"

    @property
    def datasets(self) -> Path:
        """A folder for each content of a data set."""
        return self.folder / "datasets"

    @property
    def models(self) -> Path:
        """A file for each content of a model."""
        return self.folder / "models"

    @property
    def structures(self) -> Path:
        """A file for each stored structure."""
        return self.folder / "structures"

    @property
    def uploads(self) -> Path:
        """A file for each upload."""
        return self.folder / "uploads"

    @property
    def cache(self) -> Path:
        """What can be made again."""
        return self.folder / "cache"

    @property
    def lock(self) -> Path:
        """A file that is locked by the process that keeps the queue going."""
        return self.folder / "reconciler.lock"

    def job(self, number: int) -> Path:
        """The folder of a job."""
        return self.jobs / str(number)

    def dataset(self, sha256: str) -> Path:
        """The folder of a content: its file and its index."""
        return self.datasets / sha256

    def model(self, sha256: str) -> Path:
        """The file of a model."""
        return self.models / f"{sha256}.rutile"

    def structure(self, number: int) -> Path:
        """The file of a stored structure."""
        return self.structures / f"{number}.extxyz"

    def upload(self, number: str) -> Path:
        """The file of an upload."""
        return self.uploads / number
