"""The doctor sees what is there, names what is missing, and always says what to do."""

from pathlib import Path

import pytest

from rutile.core.reporting import SilentReporter
from rutile.tasks import doctor


def checks(folder: Path = Path()) -> dict[str, doctor.Check]:
    result = doctor.run(doctor.DoctorSettings(folder=folder), SilentReporter())
    assert result.problems == sum(c.state == "problem" for c in result.checks)
    return {c.name: c for c in result.checks}


def test_a_working_machine_has_no_problem(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = checks()
    assert not [c for c in found.values() if c.state == "problem" and c.name != "disk"]
    assert {"rutile", "python", "device cpu", "compiled kernels", "cache", "disk", "engine GPAW"} <= found.keys()


def test_engines_are_found_by_their_program(tmp_path, monkeypatch):
    program = tmp_path / "pw.x"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ASE_VASP_COMMAND", "mpirun vasp_std")
    found = checks()
    assert found["engine Quantum ESPRESSO"].found == str(program)
    assert found["engine VASP"].state == "ok"
    assert found["engine CP2K"].state == "missing"
    assert found["engine CP2K"].remedy


def test_what_is_wrong_comes_with_a_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("RUTILE_KERNELS", "off")
    found = checks(tmp_path / "nowhere")
    assert found["cache"].state == "problem"
    assert found["disk"].state == "problem"
    assert all(c.remedy for c in found.values() if c.state == "problem")


@pytest.mark.parametrize(
    ("version", "numbers"), [("2.13.0+cpu", (2, 13, 0)), ("3.29", (3, 29)), ("26.3rc1", (26, 3, 1))]
)
def test_versions_are_compared_as_numbers(version, numbers):
    assert doctor._numbers(version) == numbers


def test_old_and_absent_packages_are_problems(monkeypatch):
    monkeypatch.setattr(
        doctor.importlib.metadata, "requires", lambda name: ["numpy>=99", "nosuchthing>=1", "x; extra == 'y'"]
    )
    states = {c.name: c for c in doctor._packages()}
    assert states["numpy"].state == states["nosuchthing"].state == "problem"
    assert states["numpy"].remedy == "pip install 'numpy>=99'"
    assert "x" not in states
