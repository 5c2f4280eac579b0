"""Progress and results as plain lines and as a live display."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from rutile.cli.columns import duration
from rutile.cli.terminal import RichReporter, show
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import Angstrom


class Row(Result):
    """A row."""

    name: str
    """Name."""
    value: float
    """Value."""
    note: str | None = None
    """Note."""


class Table(Result):
    """A result with rows."""

    rows: list[Row]
    """Rows."""
    error: float
    """Number."""
    first: Row
    """One."""
    absent: str | None = None
    """Nothing."""


def test_a_log_gets_plain_lines():
    stream = io.StringIO()
    with RichReporter(stream) as reporter:
        checked: Reporter = reporter
        checked.info("reading [red]a[/red]")
        checked.warn("odd")
        assert list(checked.track([1, 2], "frames")) == [1, 2]
        checked.metrics({"epoch": 1, "loss": 0.123456789})
        checked.metrics({"epoch": 2, "loss": 0.1})
    lines = stream.getvalue().splitlines()
    assert lines == [
        "reading [red]a[/red]",
        "warning: odd",
        "    epoch       loss",
        "        1    0.12346",
        "        2        0.1",
    ]


EPOCH = {
    "epoch": 1, "step": 20, "learning_rate": 0.003, "prefactor_force": 1.0, "train_loss": 0.5,
    "train_energy_rmse": 0.0123456, "train_force_rmse": 0.1,
    "valid_loss": 0.25, "valid_energy_rmse": 0.02, "valid_force_rmse": 0.2,
    "seconds": 1.0, "structures_per_second": 123.456, "epochs": 250, "seconds_left": 200.4,
}  # fmt: skip


def test_an_epoch_is_shown_in_mev_with_the_time_left_and_without_control_characters():
    stream = io.StringIO()
    with RichReporter(stream) as reporter:
        reporter.metrics(EPOCH)
        reporter.metrics({k: v for k, v in EPOCH.items() if not k.startswith("valid")})
    head, first, second = stream.getvalue().splitlines()
    assert " ".join(first.split()) == "2/250 0.5 0.25 12.35 20 100 200 0.003 123 3min 20s"
    assert " ".join(second.split()) == "2/250 0.5 12.35 100 0.003 123 3min 20s"
    assert len(head) == len(first) == len(second)
    assert "E meV/atom" in head
    assert stream.getvalue().isprintable() is False  # line ends, nothing else
    assert stream.getvalue().replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (12.4, "12s"), (59.6, "1min 00s"), (200, "3min 20s"), (7500, "2h 05min"), (93600, "1d 02h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_terminal_gets_bars_and_a_table_that_survive_nesting():
    stream = io.StringIO()
    with RichReporter(console=Console(file=stream, force_terminal=True, width=100)) as reporter:
        for _ in reporter.track(range(2), "epochs"):
            for _ in reporter.track(iter([1]), "batches"):
                reporter.metrics({"epoch": 1, "loss": 0.5})
                assert reporter.live is not None
                reporter.live.refresh()
            reporter.info("between")
    text = stream.getvalue()
    for word in ("epochs", "batches", "loss", "between"):
        assert word in text


class More(Result):
    """A row of another table."""

    name: str
    """Name."""
    length: Angstrom
    """Length."""


class Files(Result):
    """Rows that lie in two tables."""

    rows: list[Row]
    """Rows."""
    more: list[More]
    """More."""
    table: Path = Path("out/table.csv")
    """The first table."""
    units: dict[str, dict[str, str]] = {"table.csv": {}, "more.csv": {"length": "Å"}}
    """Of both."""


def test_a_table_that_is_too_wide_says_where_its_own_columns_lie(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    rows = [Row(name=f"a name of {n} words", value=n, note="noted") for n in range(9)]
    more = [More(name=f"another name {n}", length=n) for n in range(9)]
    show(Files(rows=rows, more=more), stream)
    told = [line for line in stream.getvalue().splitlines() if "left out" in line]
    assert [line.split(" are in ")[1].rstrip(")") for line in told] == ["out/table.csv", "out/more.csv"]


def test_results_are_lines_and_tables():
    stream = io.StringIO()
    row = Row(name="Ti", value=0.123456789)
    show(Table(rows=[row, row], error=1e-9, first=row), stream)
    text = stream.getvalue()
    assert "note" not in text
    assert "absent" not in text
    assert "error: 1e-09" in text
    assert text.count("Ti") == 3
