"""The compiled kernels: every `*.c` of the package, built into one library by this machine's compiler at first use.

The shared library lives in the user's cache ($XDG_CACHE_HOME or ~/.cache, folder rutile) under a name that hashes
source, flags, compiler and CPU, so that an upgrade, another compiler or another CPU builds its own. Where the cache
cannot be written, a private temporary folder is used. Several processes may start at once. Nothing happens at import.

`RUTILE_KERNELS=off` turns the kernels off. Without them everything still works, in plain PyTorch.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FLAGS = ("-std=c11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
OPENMP = ("-fopenmp",)
COMPILE_SECONDS = 300


@dataclass(frozen=True)
class Kernels:
    """The library, or why there is none."""

    library: ctypes.CDLL | None
    path: Path | None
    """Where the library is."""
    reason: str
    """One line for people: what is used, or why nothing is."""


def library() -> ctypes.CDLL | None:
    """The kernels, built if need be; None where they are turned off or cannot be built."""
    return kernels().library


def reason() -> str:
    """One line for people: what is used, or why nothing is."""
    return kernels().reason


_KINDS = {"n": ctypes.c_int64, "i": ctypes.c_int, "p": ctypes.c_void_p, "d": ctypes.c_double}


@functools.cache
def function(name: str, kinds: str, result: str = "i") -> Any:
    """A function of the kernels; None: no kernels.

    Args:
        name: in C.
        kinds: of its arguments, one letter each: n int64, i int, d double, p a pointer.
        result: kind of what it returns; of no use where it returns nothing.
    """
    found = library()
    if found is None:
        return None
    made = getattr(found, name)
    made.argtypes, made.restype = [_KINDS[k] for k in kinds], _KINDS[result]
    return made


@functools.cache
def kernels() -> Kernels:
    """The kernels with the reason for their state (asked once for each process)."""
    if os.environ.get("RUTILE_KERNELS", "").lower() in ("off", "0", "no", "false"):
        return Kernels(None, None, "turned off by RUTILE_KERNELS")
    if os.name != "posix":
        return Kernels(None, None, "built on Linux and macOS only")
    compiler = find_compiler()
    if compiler is None:
        return Kernels(None, None, "no C compiler found (install gcc, or name one in CC)")
    try:
        with cache_folder() as folder:
            return build(compiler, folder)
    except (OSError, subprocess.SubprocessError) as error:
        return Kernels(None, None, f"cannot be built: {_last_line(error)}")


def build(compiler: str, folder: Path, flags: tuple[str, ...] = FLAGS) -> Kernels:
    """Compile into `folder` unless it is there already, and load.

    Args:
        compiler: command of a C compiler that takes gcc's options.
        folder: where the library goes; must exist.
        flags: how to compile.

    Raises:
        OSError: the folder cannot be written, or the library cannot be loaded.
        subprocess.SubprocessError: the compiler refuses.
    """
    sources = sorted(Path(__file__).parents[1].rglob("*.c"))
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    seal = hashlib.sha256()
    for part in (*(s.read_bytes() for s in sources), " ".join(flags + OPENMP).encode(), version.encode(), _cpu()):
        seal.update(part + b"\0")
    path = folder / f"kernels-{seal.hexdigest()[:24]}.so"
    with _locked(folder):  # whoever comes second finds the library made
        if not path.exists():
            _compile(compiler, flags, sources, path)
    return Kernels(ctypes.CDLL(str(path)), path, f"compiled by {version.splitlines()[0]}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone among the processes that build in this folder."""
    import fcntl

    with (folder / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def cache_folder() -> Iterator[Path]:
    """A folder of our own that can be written: the user's cache, else a temporary one, removed at the end."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(base) if base else Path.home() / ".cache") / "rutile"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError):
        with tempfile.TemporaryDirectory(prefix="rutile-") as temporary:
            yield Path(temporary)
    else:
        yield folder


def find_compiler() -> str | None:
    """$CC if set, else the first of gcc, cc, clang that is installed."""
    named = os.environ.get("CC")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, ("gcc", "cc", "clang"))), None)


def _compile(compiler: str, flags: tuple[str, ...], sources: list[Path], path: Path) -> None:
    """Write the library under another name first: only a whole file appears at `path`."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as work:
        made = Path(work) / path.name
        command = [compiler, *flags, "-shared", "-fPIC", "-o", str(made), *map(str, sources)]
        wide = _wide(compiler)
        try:
            _run([*command, *wide, *OPENMP, "-lm"])
        except subprocess.CalledProcessError:
            _run([*command, *wide, "-lm"])  # a compiler without OpenMP: one thread
        made.replace(path)


def _wide(compiler: str) -> tuple[str, ...]:
    """Gcc and clang prefer half of an AVX-512 register unless told otherwise."""
    flag = "-mprefer-vector-width=512"
    tried = subprocess.run([compiler, flag, "-E", "-x", "c", os.devnull], capture_output=True, timeout=30)
    return (flag,) if tried.returncode == 0 else ()


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=COMPILE_SECONDS)


def _cpu() -> bytes:
    """What -march=native depends on."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return (platform.machine() + line).encode()
    except OSError:
        pass
    return (platform.machine() + platform.processor() + platform.node()).encode()


def _last_line(error: Exception) -> str:
    """The one line of a compiler's complaint that says most."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in (error.stderr or "").splitlines() if "error" in line] or [str(error)]
        return lines[0]
    return str(error)
