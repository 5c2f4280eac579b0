"""Rules of the house that a linter does not know."""

import ast
import functools
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import rutile
from rutile.cli.reference import all_settings
from rutile.core.settings import Result, Settings
from rutile.tasks.catalogue import TASKS, all_tasks

SRC = Path(rutile.__file__).parent
ROOT = SRC.parent.parent
FILES = sorted(SRC.rglob("*.py"))
LONGEST_FUNCTION = 60
"""Code lines of a function, without its docstring."""
LONG_FUNCTIONS = {"jobs/migrations/versions/v0001_first_tables.py:upgrade"}  # a list of tables
"""Functions that may be longer, with a reason each."""
LONGEST_FILE = 500


def name(path: Path) -> str:
    return str(path.relative_to(SRC))


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def nodes_of(file: Path) -> list[ast.AST]:
    return list(ast.walk(tree_of(file)))


def dotted(node: ast.AST) -> str:
    """a.b.c; of what is no name (a call, an item), only what comes after it."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@functools.cache
def calls_in(file: Path) -> list[str]:
    return [dotted(n.func) for n in nodes_of(file) if isinstance(n, ast.Call)]


def test_floors_hold():
    found = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout
    assert "0 broken" in found.stdout


def test_energies_are_differentiated_in_one_file():
    users = {name(f) for f in FILES if any(c.endswith(("autograd.grad", "func.grad")) for c in calls_in(f))}
    users = {u for u in users if not u.startswith("potentials/parts/")}  # derivatives of kernels
    assert users == {"potentials/evaluate.py"}


def test_nothing_prints_and_nothing_unpickles():
    for file in FILES:
        nodes = nodes_of(file)
        used = set(calls_in(file))
        assert not used & {"print", "torch.load", "torch.save", "exec", "eval"}, name(file)
        modules = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
        modules |= {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}
        assert not modules & {"pickle", "dill", "cloudpickle", "shelve", "marshal"}, name(file)
        loads = [ast.unparse(n) for n in nodes if isinstance(n, ast.Call) and dotted(n.func) == "np.load"]
        assert not [c for c in loads if "allow_pickle=True" in c], name(file)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_every_module_says_what_it_is_for(file):
    assert ast.get_docstring(tree_of(file))


def test_functions_and_files_stay_small():
    long = set()
    for file in FILES:
        for node in nodes_of(file):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body and (body[-1].end_lineno or 0) - body[0].lineno + 1 > LONGEST_FUNCTION:
                    long.add(f"{name(file)}:{node.name}")
    assert long <= LONG_FUNCTIONS
    assert not {name(f) for f in FILES if len(f.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE}


def test_every_task_can_be_understood():
    for task in all_tasks():
        assert len(task.summary) > 10, task.name
        assert task.examples, task.name
        assert all(e.startswith(f"rutile {task.name}") for e in task.examples), task.name
        assert issubclass(task.settings, Settings)
        assert issubclass(task.result, Result)
        assert all(f.description for f in task.result.model_fields.values()), task.name
        assert task.positional is None or task.positional in task.settings.model_fields
    assert len({t.run for t in all_tasks()}) == len(TASKS)


def test_every_file_of_tasks_is_in_the_catalogue():
    modules = {v.split(":")[0].rsplit(".", 1)[1] for v in TASKS.values()}
    files = {p.stem for p in (SRC / "tasks").glob("*.py")} - {"__init__", "task", "catalogue"}
    with_task = {f for f in files if hasattr(importlib.import_module(f"rutile.tasks.{f}"), "TASK")}
    assert with_task == modules


def test_names_of_test_files_are_unique():
    """Pytest imports them all by their name alone."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_names_of_settings_classes_are_unique():
    names = [c.__name__ for c in all_settings()]
    assert len(names) == len(set(names))


def test_settings_modules_and_tasks_import_no_torch():
    """Their top-level imports are light, so help is instant (the subprocess test of the CLI proves the sum)."""
    for task in all_tasks():
        module = inspect.getmodule(task.run)
        assert module is not None
        assert "torch" not in vars(module), task.name
