"""What the loop of active learning remembers, and when it ends.

A round is a list of steps. Each step reads and writes files in the folder of the round and gives back what the round's
row gets; then the state is written, whole or not at all. A step that was killed is done again: it finds what it had
finished and goes on from there, so that the end is the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rutile.active.plan import StopSettings
from rutile.core.errors import FileError, SettingsError
from rutile.core.files import write_atomically

STATE_FILE, PAUSE_FILE = "state.json", "PAUSE"
VERSION = 1
FIRST = ("label", "divide", "train", "calibrate", "check")
"""Steps of round 0: the data to begin with and the first committee."""
ROUND = ("explore", "choose", "verify", "label", "compare", "divide", "train", "calibrate", "check")
"""Steps of all other rounds."""
END = "end"
"""After the last step of a round."""


@dataclass
class State:
    """Where the loop is."""

    kept: dict[str, Any]
    """What must stay as it is: engine, committee, first data."""
    round: int = 0
    step: str = FIRST[0]
    """To be done next; "end": the round is over."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Of each round, the one at work with them."""
    details: list[dict[str, Any]] = field(default_factory=list)
    """What the report says about each round besides."""
    model: str = ""
    """The newest model file, in the folder of the loop."""
    stress: bool | None = None
    """Whether the self-check accepted the stress; None: it was not made."""
    isolated: list[int] = field(default_factory=list)
    """Elements whose isolated atoms are among the data."""
    seconds: float = 0.0
    """Time of all finished steps (s)."""
    plan: dict[str, Any] = field(default_factory=dict)
    """What the round at work was begun with."""
    failed: bool = False
    """Whether the step could not be done: then a changed plan holds from it on, not from the next round on."""

    @property
    def row(self) -> dict[str, Any]:
        """Of the round at work."""
        return self.rows[-1]

    @property
    def steps(self) -> tuple[str, ...]:
        """Of the round at work."""
        return FIRST if self.round == 0 else ROUND

    def begin(self, plan: dict[str, Any]) -> None:
        """A new round, or the first one."""
        if self.rows:
            self.round += 1
        self.rows.append({"round": self.round, "labels": labels_made(self.rows)})
        self.details.append({})
        self.plan = plan
        self.step = self.steps[0]

    def advance(self, *, over: bool = False) -> None:
        """To the next step; or, where the round is over early, to its end."""
        following = dict(zip(self.steps, [*self.steps[1:], END], strict=True))
        self.step = END if over else following[self.step]
        self.failed = False


def round_name(number: int) -> str:
    """Folder of a round."""
    return f"round-{number:02d}"


def read_state(folder: Path) -> State | None:
    """The state of a loop that was begun in a folder; None: none was.

    Raises:
        FileError: it cannot be understood.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_bytes())
        if found.pop("version") != VERSION:
            raise FileError(f"{path} is of another version of rutile: finish it with that, or choose another out=")
        return State(**found)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise FileError(f"{path} is damaged: restore it, or choose another out=") from None


def write_state(folder: Path, state: State) -> None:
    """Keep the state, whole or not at all."""
    write_atomically(folder / STATE_FILE, json.dumps({"version": VERSION} | asdict(state), indent=1).encode())


def require_kept(kept: Mapping[str, Any], plan: Mapping[str, Any], folder: Path) -> None:
    """Refuse a plan that changes what must stay.

    Raises:
        SettingsError: names what was changed.
    """
    old, new = _flat(kept), _flat(plan)
    different = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
    if different:
        said = "; ".join(f"{k} was {old.get(k)!r}, now {new.get(k)!r}" for k in different[:3])
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise SettingsError(
            f"{folder} was begun with another plan: {said}{more}. Restore that, or begin anew with another "
            "out= (systems, choose, retrain, stop, test and how calculations are run may change between rounds)"
        )


def why_end(rows: Sequence[Mapping[str, Any]], stop: StopSettings, seconds: float, *, changed: bool) -> str:
    """Why no new round begins; empty: one does.

    Args:
        rows: of the rounds so far; the last one is over.
        stop: criteria.
        seconds: time of all runs so far (s).
        changed: the plan is not the one of the last round: what that met says nothing.
    """
    last = rows[-1]
    if knows_enough(last, stop) and proved(last, stop) and not changed:
        return f"{_percent(last['share'])} candidates, not more than {_percent(stop.candidates)}{_check(last)}"
    if last.get("chosen") == 0 and not last.get("labelled") and not changed:
        return _stuck(last)
    if last["round"] >= stop.rounds:
        return "1 round" if stop.rounds == 1 else f"{stop.rounds} rounds"
    if stop.labels is not None and labels_made(rows) >= stop.labels:
        return f"{labels_made(rows)} labels"
    if stop.seconds is not None and seconds >= stop.seconds:
        return f"{seconds:.0f} s"
    return ""


def _check(row: Mapping[str, Any]) -> str:
    """What the check of accurate structures said."""
    if row.get("checked") is None:
        return ""
    return f"; of {row['checked']} accurate ones that were checked {row['wrong'] or 'none'} had errors above the level"


def _stuck(row: Mapping[str, Any]) -> str:
    """Why there is nothing to choose."""
    if row.get("checked") == 0:
        return "nothing to choose, and none of the accurate structures could be labelled as a check"
    if row["candidates"]:
        return f"nothing to choose: all {row['candidates']} candidates are like known structures (choose.near)"
    return (
        f"nothing to choose: no candidates, but {row['failed']} structures beyond the failed level of "
        f"{row['high']:.3g} eV/Å and {row['impossible']} impossible ones of {row['explored']}; explore gentler, raise "
        "choose.high, or begin with more data"
    )


def knows_enough(row: Mapping[str, Any], stop: StopSettings) -> bool:
    """Whether the committee knows what a round met."""
    share = row.get("share")
    return share is not None and share <= stop.candidates and row["failed_share"] <= stop.failed


def proved(row: Mapping[str, Any], stop: StopSettings) -> bool:
    """Whether labels of structures about which the members agree say that they know them."""
    checked: int = row.get("checked") or 0
    return stop.check == 0 or (checked > 0 and row["wrong"] <= stop.wrong * checked)


def labels_made(rows: Sequence[Mapping[str, Any]]) -> int:
    """Labels of all rounds, those that failed with them: they cost as much."""
    return sum(row.get("labelled", 0) + row.get("label_failures", 0) for row in rows)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names of all values."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out
