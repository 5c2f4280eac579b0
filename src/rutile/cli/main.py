"""`rutile TASK [job.yaml] [key=value ...]`: the command line, derived from the catalogue of tasks.

Exit codes: 0 done; 2 the input, a file or the disk is at fault (one line on stderr); 130 interrupted;
1 a bug of rutile (traceback and where to report it).
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import rutile
from rutile.cli.commands import load_command
from rutile.core import config
from rutile.core.errors import RutileError, SettingsError
from rutile.jobs.folder import VARIABLE
from rutile.tasks.catalogue import joined
from rutile.tasks.task import Task

JOB_FILES = {".yaml", ".yml", ".json"}
"""Bare words with these endings are job files."""
OK, BUG, USER_ERROR, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141


def entry() -> None:
    """Console script."""
    code = main(sys.argv[1:])
    if code == INTERRUPTED or any(thread.daemon for thread in threading.enumerate()):
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> None:
    """End the process with this exit code, whatever the interpreter has met.

    Its own end would abort threads at work in C++ (PyTorch), and, where Ctrl-C came while the text of a program was
    executed (as dataclasses do, so while PyTorch is imported), kill the process by SIGINT although it was caught.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code, never raises for an error of the user."""
    argv = joined(argv)
    name = "rutile " + argv[0] if argv and not argv[0].startswith("-") else "rutile"
    try:
        _dispatch(list(argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _fail(f"{name}: interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads: end quietly, also at the flush on exit
        return BROKEN_PIPE
    except RutileError as e:
        return _fail("\n".join(f"{name}: error: {line}" for line in str(e).splitlines()), USER_ERROR)
    except OSError as e:
        place = f"{e.filename}: " if e.filename else ""
        return _fail(f"{name}: error: {place}{e.strerror or e}", USER_ERROR)
    except MemoryError as e:
        return _fail(f"{name}: error: out of memory {e}".rstrip(), USER_ERROR)
    except Exception:
        traceback.print_exc()
        return _fail(
            f"{name}: this is a bug of rutile {rutile.__version__}; please report it with the lines above", BUG
        )
    return OK


def _fail(text: str, code: int) -> int:
    if os.environ.get("RUTILE_DEBUG") == "1" and code == USER_ERROR:
        traceback.print_exc()
    sys.stderr.write(text + "\n")
    return code


def _dispatch(argv: list[str]) -> None:
    if not argv or argv[0] in ("-h", "--help", "help"):
        if len(argv) > 1 and argv[0] == "help":
            return _help(joined(argv[1:])[0])
        from rutile.cli.help import overview

        sys.stdout.write(overview() + "\n")
    elif argv[0] in ("--version", "-V"):
        sys.stdout.write(f"rutile {rutile.__version__}\n")
    elif argv[0] == "schema":
        _schema(joined(argv[1:]))
    elif "-h" in argv or "--help" in argv:
        _help(argv[0], *[w for w in argv[1:] if w not in ("-h", "--help")][:1])
    else:
        _run(load_command(argv[0]), argv[1:])
    return None


def _help(name: str, chosen: str = "") -> None:
    from rutile.cli.help import task_help

    sys.stdout.write(task_help(load_command(name), chosen) + "\n")


def _schema(names: list[str]) -> None:
    if len(names) != 1:
        raise SettingsError("usage: rutile schema TASK")
    json.dump(load_command(names[0]).settings.model_json_schema(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


def _run(task: Task, words: list[str]) -> None:
    from rutile.cli.job import JobReporter
    from rutile.cli.terminal import RichReporter, show

    as_json = "--json" in words
    settings = read_settings(task, [w for w in words if w != "--json"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell started us with Ctrl-C ignored
    job = os.environ.pop(VARIABLE, "")  # not for what we start
    with JobReporter(Path(job)) if job else RichReporter() as reporter:
        if isinstance(reporter, JobReporter):
            reporter.begins(settings)
        result = task.run(settings, reporter)
        if isinstance(reporter, JobReporter):
            reporter.keep(result)
    if as_json:
        sys.stdout.write(result.model_dump_json(indent=1) + "\n")
    else:
        show(result)


def read_settings(task: Task, words: Sequence[str]) -> Any:
    """Settings of a task from the words after its name.

    Raises:
        SettingsError: an option that does not exist, or a setting that is wrong.
        FileError: a job file is missing or no YAML.
    """
    files, pairs, bare = [], [], []
    for word in words:
        if word.startswith("--"):
            raise SettingsError(f"unknown option {word}; settings are written {word.lstrip('-').split('=')[0]}=value")
        if config.PAIR.fullmatch(word):
            pairs.append(word)
        elif Path(word).suffix.lower() in JOB_FILES:
            files.append(Path(word))
        else:
            bare.append(word)
    return config.load(task.settings, files, [*_positional(task, bare), *pairs])


def _positional(task: Task, bare: list[str]) -> list[str]:
    """Bare words as one `key=value` word."""
    if not bare:
        return []
    if task.positional is None:
        raise SettingsError(f"{bare[0]!r}: expected key=value or a .yaml file")
    if config.is_list(task.settings.model_fields[task.positional].annotation):
        return [f"{task.positional}={json.dumps(bare)}"]
    if len(bare) > 1:
        raise SettingsError(f"{bare[1]!r}: only one {task.positional} can be given")
    return [f"{task.positional}={json.dumps(bare[0])}"]
