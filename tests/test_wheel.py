"""What `pip install rutile` brings: every file that the package reads, the built page among them."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "src/rutile", source / "src/rutile", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copyfile(ROOT / name, source / name)
    kept = {file.relative_to(source / "src").as_posix() for file in source.glob("src/**/*") if file.is_file()}
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*words, "--wheel-dir", tmp_path, source], check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("rutile-*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert "rutile/server/static/index.html" in inside
    assert kept <= inside
