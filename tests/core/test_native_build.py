"""Building, caching and doing without the compiled kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rutile.core import native

needs_compiler = pytest.mark.skipif(native.find_compiler() is None, reason="no C compiler")


def ask(code: str, **environment: str) -> str:
    """What a fresh process prints."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
    ).stdout.strip()


REASON = "from rutile.core.native import kernels; k = kernels(); print(k.library is not None, k.reason)"


@pytest.mark.slow
def test_nothing_is_built_at_import(tmp_path: Path) -> None:
    ask("import rutile.potentials.parts.symmetry_native", XDG_CACHE_HOME=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_kernels_can_be_turned_off() -> None:
    assert ask(REASON, RUTILE_KERNELS="off") == "False turned off by RUTILE_KERNELS"


def test_no_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.delenv("RUTILE_KERNELS", raising=False)
    found = native.kernels.__wrapped__()
    assert found.library is None
    assert "no C compiler" in found.reason


def test_a_compiler_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo broken 1.0; exit 0; }\necho "x.c:1: error: no" >&2\nexit 1\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RUTILE_KERNELS", raising=False)
    found = native.kernels.__wrapped__()
    assert found.library is None
    assert found.reason == "cannot be built: x.c:1: error: no"
    assert [p.name for p in (tmp_path / "cache" / "rutile").iterdir()] == ["build.lock"]


def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    with native.cache_folder() as folder:
        assert folder.is_dir()
        assert blocked not in folder.parents
    assert not folder.exists()


@needs_compiler
@pytest.mark.slow
def test_processes_that_start_at_once_all_get_the_library(tmp_path: Path) -> None:
    changes = {"PYTHONPATH": os.pathsep.join(sys.path), "XDG_CACHE_HOME": str(tmp_path), "RUTILE_KERNELS": ""}
    environment = os.environ | changes
    started = [
        subprocess.Popen([sys.executable, "-c", REASON], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    answers = [process.communicate()[0] for process in started]
    assert all(answer.startswith("True compiled by") for answer in answers)
    assert sorted(p.suffix for p in (tmp_path / "rutile").iterdir()) == [".lock", ".so"]
