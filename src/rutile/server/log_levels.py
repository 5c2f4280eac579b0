"""Which lines of a log tell of an error and which warn: one rule for the log, its filter and why a job failed."""

from __future__ import annotations

import re
from typing import Literal

Level = Literal["", "warning", "error"]
"""What a line tells; "" is neither."""
Wanted = Literal["all", "warning", "error"]
"""Lines that are asked for: all, warnings and errors, errors alone."""

NO_MISTAKE = "".join(
    rf"(?<!\b{word} )"
    for word in ("no", "0", "energy", "force", "stress", "virial", "mean", "absolute", "relative", "standard", "max",
                 "maximum", "squared", "an", "the", "test", "training", "validation", "estimated", "rmse")
)  # fmt: skip
"""Words before "error" that make it a quantity."""
QUANTITY = r"(?! *=| bars?\b| estimate| of [-+.\d]| \(\w*(?:eV|GPa|Ha|Ry)\b| [-+]?\d)"
"""What does not follow then."""
ERRORS = (
    ("error", NO_MISTAKE + r"(?<![_.\-])\berror\b" + QUANTITY),
    ("error", r"[^\W_]error\b(?=[: ]|$)"),  # ValueError: of Python
    ("an error", r"\ban error (?:occurred|in|was|has)\b"),
    ("traceback", r"\btraceback\b"),
    ("exception", r"(?:^|\.)\w*exception(?::|$)"),
    ("keyboardinterrupt", r"\bkeyboardinterrupt\b"),
    ("fail", r"(?<!\b0 )(?<!\bno )(?<!\bnone )\bfail(?:ed|ure)\b(?! *[:=]? *(?:0|none)\b)"),
    ("cancelled", r"\bcancelled\b"),
    ("abort", r"\b(?:mpi_)?abort(?:ed|ing)?\b"),
    ("fatal", r"\bfatal\b"),
    ("severe (", r"\bsevere \(\d+\)"),  # Fortran of Intel
    ("segmentation fault", r"\bsegmentation fault\b"),
    ("core dumped", r"\bcore dumped\b"),
    ("kill", r"^killed\b|: killed\b|\boom[-_ ]kill"),
    ("ended by sig", r"\bended by sig"),
    ("out of memory", r"\bout of memory\b"),
    ("command not found", r"\bcommand not found\b"),
    ("no such file", r"\bno such file or directory\b"),
    ("bad termination", r"\bbad termination\b"),
    ("!bug", r"^--- !bug\b"),  # ABINIT
)  # fmt: skip
"""What the line holds in lower case, which is quickly found, and a regular expression that must hold, too."""
WARNINGS = (
    ("warn", r"(?<!\b0 )(?<!\bno )(?<!number of )\b\w*warn(?:ing)?s?\b(?! *[:=] *0\b| for this run is *: *0\b)"),
    ("converge", r"\bnot(?: yet)? converged?\b|\bconvergence not\b"),
)
"""The same of warnings."""
PATTERN = f"({'|'.join(rule for _, rule in ERRORS)})|({'|'.join(rule for _, rule in WARNINGS)})"
"""Group 1 is found in errors, group 2 in warnings, upper or lower case: Python and JavaScript read it alike."""
_RULE = re.compile(PATTERN, re.IGNORECASE)


def level_of(line: str) -> Level:
    """What a line tells; of several words the first one counts, so that `warning: training failed` warns."""
    found = _RULE.search(line)
    if found is None:
        return ""
    return "error" if found[1] is not None else "warning"


def counts(line: str, wanted: Wanted) -> bool:
    """Whether a line is asked for."""
    return wanted == "all" or level_of(line) in (("error",) if wanted == "error" else ("error", "warning"))


def stems(wanted: Wanted) -> list[bytes]:
    """Of these, in lower case, each line that is asked for holds one."""
    words = dict.fromkeys(word.encode() for word, _ in (ERRORS if wanted == "error" else ERRORS + WARNINGS))
    return [word for word in words if not any(other != word and other in word for other in words)]
