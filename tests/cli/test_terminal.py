"""Progress and results as plain lines and as a live display."""

import io

from rich.console import Console

from rutile.cli.terminal import RichReporter, show
from rutile.core.reporting import Reporter
from rutile.core.settings import Result


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


def test_results_are_lines_and_tables():
    stream = io.StringIO()
    row = Row(name="Ti", value=0.123456789)
    show(Table(rows=[row, row], error=1e-9, first=row), stream)
    text = stream.getvalue()
    assert "note" not in text
    assert "absent" not in text
    assert "error: 1e-09" in text
    assert text.count("Ti") == 3
