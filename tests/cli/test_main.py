"""The command line: listing, help, schema, exit codes, one line for each error, no torch where it is not needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import rutile
from rutile.cli import main as cli
from rutile.core.errors import DataError
from rutile.core.settings import Result, Settings
from rutile.tasks import catalogue
from rutile.tasks.task import Task


class EchoSettings(Settings):
    """Settings of a task for tests."""

    files: list[Path] = []
    """Files."""
    number: int = 1
    """A number."""
    what: str = "return"
    """What to do."""


class EchoResult(Result):
    """Result of a task for tests."""

    number: int
    """A number."""
    names: list[str]
    """Names."""


RAISES = {
    "user": DataError("a.xyz frame 3: position is NaN"),
    "disk": OSError(28, "No space left on device", "out/model.rutile"),
    "nameless": OSError("odd"),
    "interrupt": KeyboardInterrupt(),
    "pipe": BrokenPipeError(),
    "memory": MemoryError(),
    "bug": ZeroDivisionError("oops"),
}


def run(settings, reporter):
    """Echo the settings."""
    reporter.info("working")
    if settings.what != "return":
        raise RAISES[settings.what]
    return EchoResult(number=settings.number, names=[str(f) for f in settings.files])


TASK = Task("echo", EchoSettings, EchoResult, run, positional="files", examples=("rutile echo a b",))


@pytest.fixture
def call(monkeypatch, capsys):
    monkeypatch.setitem(catalogue.TASKS, "echo", f"{__name__}:TASK")
    monkeypatch.setattr(cli.signal, "signal", lambda *a: None)
    monkeypatch.setattr(cli.os, "dup2", lambda *a: None)

    def call(*argv):
        code = cli.main(argv)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_words_reach_the_task_and_json_is_all_that_stdout_holds(call):
    code, out, err = call("echo", "a.xyz", "b.xyz", "number=4", "--json")
    assert code == 0
    assert json.loads(out) == {"number": 4, "names": ["a.xyz", "b.xyz"]}
    assert err == "working\n"


def test_a_job_file_and_a_word_that_overrides_it(call, tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("number: 2\nfiles: [c.xyz]\n")
    code, out, _ = call("echo", str(job), "number=3")
    assert code == 0
    assert out == "number: 3\nnames:\n  c.xyz\n"


@pytest.mark.parametrize(
    ("what", "code", "line"),
    [
        ("user", 2, "rutile echo: error: a.xyz frame 3: position is NaN"),
        ("disk", 2, "rutile echo: error: out/model.rutile: No space left on device"),
        ("nameless", 2, "rutile echo: error: odd"),
        ("memory", 2, "rutile echo: error: out of memory"),
        ("interrupt", 130, "rutile echo: interrupted"),
    ],
)
def test_a_failure_is_one_line_without_traceback(call, what, code, line):
    assert call("echo", f"what={what}") == (code, "", f"working\n{line}\n")


def test_a_broken_pipe_is_quiet(call):
    assert call("echo", "what=pipe") == (141, "", "working\n")


def test_a_bug_shows_where_and_asks_for_a_report(call):
    code, _, err = call("echo", "what=bug")
    assert code == 1
    assert "ZeroDivisionError" in err
    assert "please report it" in err.splitlines()[-1]


def test_the_traceback_of_a_user_error_is_shown_on_request(call, monkeypatch):
    monkeypatch.setenv("RUTILE_DEBUG", "1")
    assert "Traceback" in call("echo", "what=user")[2]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["ehco"], "rutile ehco: error: unknown task 'ehco'; did you mean echo?"),
        (["echo", "--number=3"], "rutile echo: error: unknown option --number=3; settings are written number=value"),
        (["echo", "nmber=3"], "rutile echo: error: nmber: unknown setting; did you mean number?"),
        (["doctor", "word"], "rutile doctor: error: 'word': expected key=value or a .yaml file"),
        (["schema"], "rutile schema: error: usage: rutile schema TASK"),
    ],
)
def test_a_wrong_command_is_one_line(call, argv, line):
    assert call(*argv) == (2, "", line + "\n")


def test_help_shows_every_setting_with_type_default_and_meaning(call):
    code, out, _ = call("echo", "--help")
    assert code == 0
    assert "usage: rutile echo [FILES] [job.yaml]" in out
    assert "number   integer   [1]\n      A number." in out
    assert "  rutile echo a b" in out
    assert call("help", "echo")[1] == out


def test_schema_is_that_of_the_settings(call):
    assert json.loads(call("schema", "echo")[1]) == EchoSettings.model_json_schema()


def test_version_and_overview(call):
    assert call("--version")[1] == f"rutile {rutile.__version__}\n"
    code, out, _ = call()
    assert code == 0
    assert "Echo the settings." in out


@pytest.mark.slow
def test_listing_help_and_schema_of_every_task_import_no_torch():
    code = (
        "import sys; from rutile.cli.main import main; from rutile.tasks.catalogue import TASKS\n"
        "assert main([]) == 0 and all(main([t, '--help']) == 0 and main(['schema', t]) == 0 for t in TASKS)\n"
        "heavy = {'torch', 'matplotlib', 'scipy', 'vesin'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=300)


AT_WORK = """
import atexit, sys, threading, time, torch
from rutile.cli import main

def work():
    x = torch.randn(60, 60, requires_grad=True)
    while True:
        (x @ x).tanh().sum().backward()

def command(argv):
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.3)
    sys.stdout.write("result ")
    return 2

atexit.register(lambda: sys.stdout.write("tidied"))
main.main = command
main.entry()
"""


@pytest.mark.slow
def test_threads_still_at_work_do_not_abort_the_end():
    done = subprocess.run([sys.executable, "-c", AT_WORK], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "result tidied"
    assert not done.stderr
