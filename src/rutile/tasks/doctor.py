"""`rutile doctor`: what is installed and what can be used on this machine."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

import rutile
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.tasks.task import Task

State = Literal["ok", "missing", "problem"]


class DoctorSettings(Settings):
    """What to look at."""

    folder: Path = Path()
    """Folder in which work is planned; its free space is checked."""


class Check(Result):
    """One thing that was looked at."""

    name: str
    """What."""
    state: State
    """ok; missing: optional and not there; problem: rutile will not work as it should."""
    found: str
    """Version, path or number."""
    remedy: str | None = None
    """What to do about it."""


class DoctorResult(Result):
    """The state of this machine."""

    checks: list[Check]
    """Everything that was looked at."""
    problems: int
    """Number of checks in the state problem."""


def run(settings: DoctorSettings, reporter: Reporter) -> DoctorResult:
    """Say what is installed, which devices, compiled kernels and engines can be used, and what is wrong."""
    del reporter
    checks = [
        Check(name="rutile", state="ok", found=rutile.__version__),
        _python(),
        *_packages(),
        *_devices(),
        _kernels(),
        _cache(),
        _disk(settings.folder),
        *_extras(),
        *_engines(),
    ]
    return DoctorResult(checks=checks, problems=sum(c.state == "problem" for c in checks))


def _python() -> Check:
    good = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check(
        name="python", state="ok" if good else "problem", found=found, remedy=None if good else "use 3.11 or newer"
    )


def _packages() -> list[Check]:
    """Each required package with its version, against the bound in rutile's own metadata."""
    try:
        required = [r for r in importlib.metadata.requires("rutile") or [] if "extra ==" not in r]
    except importlib.metadata.PackageNotFoundError:
        return [
            Check(name="installation", state="missing", found="rutile runs from its source folder", remedy="make setup")
        ]
    checks = []
    for line in required:
        name, bound = re.fullmatch(r"([\w.-]+)\s*(.*)", line).groups()  # type: ignore[union-attr]
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(name=name, state="problem", found="not installed", remedy=f"pip install '{line}'"))
            continue
        low = bound.removeprefix(">=")
        good = not bound.startswith(">=") or _numbers(version) >= _numbers(low)
        remedy = None if good else f"pip install '{line}'"
        checks.append(
            Check(
                name=name, state="ok" if good else "problem", found=f"{version} (needs {bound or 'any'})", remedy=remedy
            )
        )
    return checks


def _numbers(version: str) -> tuple[int, ...]:
    """Leading numbers of a version."""
    return tuple(int(n) for n in re.findall(r"\d+", version.split("+")[0])[:3])


def _devices() -> list[Check]:
    import torch

    threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"
    checks = [Check(name="device cpu", state="ok", found=threads)]
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        checks.append(Check(name=f"device cuda:{i}", state="ok", found=f"{p.name}, {p.total_memory / 2**30:.0f} GiB"))
    if not torch.cuda.is_available():
        checks.append(Check(name="device cuda", state="missing", found="no usable GPU; computing on the CPU"))
    return [*checks, _training()]


def _training() -> Check:
    """What `device=auto` means for training, with one process and with several."""
    import torch
    from torch import distributed

    from rutile.core.errors import SettingsError
    from rutile.potentials.placement import usable_device

    try:
        device = usable_device("auto")
    except SettingsError as error:
        return Check(name="training", state="problem", found=str(error), remedy="say device=cpu, or mend the driver")
    if device.type == "cpu":
        nothing = "" if distributed.is_available() else "; no torchrun in this PyTorch"
        return Check(name="training", state="ok", found=f"device=auto takes the CPU{nothing}")
    rounded = "" if torch.cuda.is_bf16_supported() else "; bf16 is not fast here"
    several = "one GPU for each process of torchrun"
    if not distributed.is_nccl_available():
        several = "no NCCL in this PyTorch: torchrun only with device=cpu"
    return Check(name="training", state="ok", found=f"device=auto takes {device}{rounded}; {several}")


def _kernels() -> Check:
    """Whether the compiled kernels can be used; without them everything works, more slowly."""
    native = importlib.import_module("rutile.core.native")
    if native.library() is not None:
        return Check(name="compiled kernels", state="ok", found="compiled and loaded")
    return Check(
        name="compiled kernels", state="missing", found=str(native.reason()), remedy="install gcc; see RUTILE_KERNELS"
    )


def _cache() -> Check:
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rutile"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as e:
        return Check(name="cache", state="problem", found=f"{folder}: {e.strerror}", remedy="set XDG_CACHE_HOME")
    return Check(name="cache", state="ok", found=str(folder))


def _disk(folder: Path) -> Check:
    try:
        free = shutil.disk_usage(folder).free / 2**30
    except OSError as e:
        return Check(name="disk", state="problem", found=f"{folder}: {e.strerror}", remedy="name an existing folder")
    low = free < 1
    return Check(
        name="disk", state="problem" if low else "ok", found=f"{free:.1f} GiB free in {folder.resolve()}",
        remedy="free some space, or work in another folder" if low else None,
    )  # fmt: skip


def _extras() -> list[Check]:
    """Optional packages."""
    wanted = {
        "lmdb": "reads aselmdb files",
        "tensorboard": "training curves in TensorBoard",
        "wandb": "training curves in Weights & Biases",
        "mlflow": "training curves in MLflow",
        "jupyterlab": "opens notebooks",
    }
    checks = []
    for name, use in wanted.items():
        there = importlib.util.find_spec(name) is not None
        found = f"{_version(name)}, {use}" if there else f"not installed; {use}"
        checks.append(Check(name=name, state="ok" if there else "missing", found=found,
                            remedy=None if there else f"pip install {name}"))  # fmt: skip
    return checks


def _version(package: str) -> str:
    """Version of an installed package; MLflow may be there as its small variant."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version(f"{package}-skinny")


ENGINES = {
    "GPAW": (("gpaw",), ("gpaw",), "pip install gpaw gpaw-data"),
    "Quantum ESPRESSO": (("pw.x",), (), "install the package quantum-espresso of your system"),
    "CP2K": (("cp2k.psmp", "cp2k.ssmp", "cp2k.popt", "cp2k"), (), "install the package cp2k of your system"),
    "ABINIT": (("abinit",), (), "install the package abinit of your system"),
    "VASP": (("vasp_std",), (), "licensed: set ASE_VASP_COMMAND and VASP_PP_PATH"),
    "tblite": ((), ("tblite",), "pip install tblite"),
    "xtb": (("xtb",), (), "install the package xtb of your system"),
    "PySCF": ((), ("pyscf",), "pip install pyscf"),
}
"""Engine -> (executables, modules, remedy)."""


def _engines() -> list[Check]:
    """Programs that compute reference labels, found by executable or module; nothing is started or imported."""
    checks = []
    for engine, (programs, modules, remedy) in ENGINES.items():
        places = [p for p in map(shutil.which, programs) if p]
        places += [f"module {m}" for m in modules if importlib.util.find_spec(m) is not None]
        if engine == "VASP":
            places += [f"{v}={os.environ[v]}" for v in ("ASE_VASP_COMMAND", "VASP_COMMAND") if v in os.environ]
        checks.append(Check(name=f"engine {engine}", state="ok" if places else "missing",
                            found=places[0] if places else "not found", remedy=None if places else remedy))  # fmt: skip
    return checks


TASK = Task("doctor", DoctorSettings, DoctorResult, run, examples=("rutile doctor", "rutile doctor --json"))
