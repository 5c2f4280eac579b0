"""Lines of errors and warnings are told from the others, in the words of rutile, Python, engines and queues."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rutile.server.log_levels import ERRORS, WARNINGS, counts, level_of, stems

LINES = {
    "error": [
        "rutile relax: error: x.cif: no such file",
        "Traceback (most recent call last):",
        "ValueError: bad",
        "torch.cuda.OutOfMemoryError: CUDA out of memory",
        "gpaw.KohnShamConvergenceError: Did not converge!",
        "KeyboardInterrupt",
        "     Error in routine cdiaghg (1):",
        "--- !ERROR",
        "--- !BUG",
        " *  [ABORT]",
        "forrtl: severe (174): SIGSEGV, segmentation fault occurred",
        "slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2026-01-02T03:04:05 DUE TO TIME LIMIT ***",
        "slurmstepd: error: Detected 1 oom_kill event in StepId=12.batch",
        "Killed",
        "MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD",
        "bash: line 1: pw.x: command not found",
        "3 of 7 structures failed: cu, ag, au",
        "an error occurred",
        "job 12 was CANCELLED by 1000",
        "KeyError",
        "builtins.Exception: no",
        "fatal: no core",
        "Segmentation fault",
        "Aborted (core dumped)",
        "train: ended by SIGKILL",
        "CUDA: out of memory",
        "sh: 1: ./vasp_std: No such file or directory",
        "BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES",
    ],
    "warning": [
        "warning: version 11 is kept out: training failed",
        "a.py:3: RuntimeWarning: overflow encountered in exp",
        "--- !WARNING",
        "     convergence NOT achieved after 100 iterations: stopping",
        " *** WARNING in qs_scf.F:542 :: SCF run NOT converged ***",
        "relaxed.extxyz#3 has not converged",
    ],
    "": [
        "epoch 3  energy error 0.1 meV/atom",
        "force_error 0.2",
        "mean absolute error: 0.2",
        "error = 0.02",
        "error (eV/atom)",
        "error bars of 0.2 eV",
        "an error of 0.2 eV",
        "0 errors",
        "failed: 0",
        "converged: true",
        "     convergence has been achieved in  11 iterations",
        " The number of warnings for this run is : 0",
        ".Delivered    0 WARNINGs and   3 COMMENTs to log file.",
        "Note: The following floating-point exceptions are signalling: IEEE_UNDERFLOW_FLAG",
    ],
}


@pytest.mark.parametrize(("level", "line"), [(level, line) for level, lines in LINES.items() for line in lines])
def test_a_line_tells_what_it_tells(level, line):
    assert level_of(line) == level
    assert level_of(line.swapcase()) == level


EVERY = [line for lines in LINES.values() for line in lines]
WORDS = sorted({word for word, _ in ERRORS + WARNINGS} | {word for line in EVERY for word in line.split()})


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw of text reads tables of all signs
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=6).map(" ".join))
def test_no_line_that_counts_is_overlooked(line):
    for wanted in ("warning", "error"):
        if counts(line, wanted):
            assert any(stem in line.encode().lower() for stem in stems(wanted)), line


@pytest.mark.parametrize("rule", [rule for _, rule in ERRORS + WARNINGS])
def test_every_rule_is_looked_at(rule):
    assert any(re.search(rule, line, re.IGNORECASE) for line in EVERY)
