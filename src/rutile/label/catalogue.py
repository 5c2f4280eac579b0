"""All engines by name. A new one is one file (or one class in `outside/serve.py`) and one line here."""

from __future__ import annotations

from importlib import import_module

from rutile.label.cost import name_of
from rutile.label.labeler import Labeler
from rutile.label.settings import EngineBase

_PYTHON, _PROGRAM = "rutile.label.python_engine:PythonLabeler", "rutile.label.program:ProgramLabeler"
ENGINES = {
    "gpaw": _PYTHON,
    "espresso": _PROGRAM,
    "cp2k": _PROGRAM,
    "abinit": _PROGRAM,
    "xtb": _PYTHON,
    "pyscf": _PYTHON,
    "emt": _PYTHON,
    "lennard_jones": _PYTHON,
    "rigid_ion": _PYTHON,
    "potential": _PYTHON,
    "ase": _PYTHON,
    "vasp": _PROGRAM,
    "aims": _PROGRAM,
    "orca": _PROGRAM,
    "gaussian": _PROGRAM,
}
"""Name -> "module:Class" of what runs it."""


def make(settings: EngineBase) -> Labeler:
    """The engine of these settings; nothing is started yet."""
    module, name = ENGINES[name_of(settings)].split(":")
    labeler = getattr(import_module(module), name)(settings)
    assert isinstance(labeler, Labeler)
    return labeler
