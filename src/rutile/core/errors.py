"""Errors a user can meet. Each message says the value, the place (file, frame, key) and the remedy.

RutileError                     the root; the command line prints it as one line and exits with code 2
├── SettingsError               a setting is unknown, of the wrong type or out of bounds
├── FileError                   a file is missing, unreadable, truncated or of an unknown format
│   └── ModelFileError          a model or checkpoint file cannot be understood
├── DataError                   a frame cannot be used (NaN, overlap, missing cell, unknown element)
│   └── LabelError              labels that the work needs are absent or not finite
├── GeometryError               a structure cannot be evaluated (NaN, two atoms at one place, empty)
│   └── ElementError            an element that the potential was not trained on
├── ModeError                   energies or labels of different reference methods would be mixed
├── TrainingError               training met NaN or infinity; names the structures
├── ForgettingError             a retrained model has become worse on old structures
├── ExecutorError               workers cannot be had (no Slurm, a job refused), or do not come
└── MissingPackageError         an optional package or engine is not installed
"""


class RutileError(Exception):
    """Root of all errors that are the input's fault, not the program's."""


class SettingsError(RutileError):
    """A setting is unknown, of the wrong type or out of bounds."""


class FileError(RutileError):
    """A file is missing, unreadable, truncated or of an unknown format."""


class ModelFileError(FileError):
    """A model or checkpoint file cannot be understood."""


class DataError(RutileError):
    """A frame cannot be used."""


class LabelError(DataError):
    """Labels that the work needs are absent or not finite."""


class GeometryError(RutileError):
    """A structure cannot be evaluated."""


class ElementError(GeometryError):
    """A structure holds an element that the potential was not trained on."""


class ModeError(RutileError):
    """Energies or labels of different calc modes would be mixed, or a mode is not known."""


class TrainingError(RutileError):
    """Training met NaN or infinity."""


class ForgettingError(RutileError):
    """A retrained model has become worse on old structures than it may."""


class ExecutorError(RutileError):
    """Workers cannot be had, or do not come."""


class MissingPackageError(RutileError):
    """An optional package or engine is not installed."""
