"""Programs beside the package (benchmarks, scripts, examples) use names of the package that are there."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted(p for folder in ("benchmarks", "scripts", "examples") for p in (ROOT / folder).rglob("*.py"))


def found(module, name):
    """What `from module import name` gives.

    Raises:
        AttributeError, ModuleNotFoundError: there is no such thing.
    """
    there = importlib.import_module(module)
    return getattr(there, name) if hasattr(there, name) else importlib.import_module(f"{module}.{name}")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_names_of_the_package_are_there(program):
    modules, missing = {}, []
    tree = ast.parse(program.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rutile":
            for alias in node.names:
                try:
                    thing = found(node.module, alias.name)
                except (AttributeError, ModuleNotFoundError):
                    missing.append(f"line {node.lineno}: {node.module}.{alias.name}")
                    continue
                if hasattr(thing, "__path__") or hasattr(thing, "__file__"):
                    modules[alias.asname or alias.name] = thing
    for node in ast.walk(tree):
        module = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and modules.get(node.value.id)
        if module and not hasattr(module, node.attr):
            missing.append(f"line {node.lineno}: {module.__name__}.{node.attr}")
    assert not missing
