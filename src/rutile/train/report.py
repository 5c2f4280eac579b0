"""One HTML page about a training or an evaluation: self-contained, works offline, light and dark, readable on a phone.

A page is a title, a few large numbers, and sections; a section is a list of blocks (text, figures, tables, facts).
Every string from outside is escaped here; only `Figures` carries markup, made by `train.figures`.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

import rutile

Value = str | float | int | bool | None
SORTING = """<script>
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th").forEach((head, column) => head.addEventListener("click", () => {
    const value = row => { const text = row.cells[column].textContent.replace("−", "-");
                           return text === "" || isNaN(text) ? text : Number(text); };
    const body = table.tBodies[0], falling = head.dataset.order === "up";
    head.dataset.order = falling ? "down" : "up";
    [...body.rows].sort((a, b) => { const x = value(a), y = value(b);
      const order = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1;
      return falling ? -order : order; }).forEach(row => body.append(row));
  }));
}
</script>"""
"""Sorts the rows of a table by the column whose heading is clicked."""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    """Plain text."""

    def html(self) -> str:
        """Markup."""
        return f"<p>{html.escape(self.text)}</p>"


@dataclass(frozen=True)
class Figures:
    """Figures side by side where there is room."""

    figures: Sequence[tuple[str, str]]
    """(SVG of `train.figures`, caption in plain text or "")."""

    def html(self) -> str:
        """Markup."""
        parts = [
            f"<figure>{svg}" + (f"<figcaption>{html.escape(caption)}</figcaption>" if caption else "") + "</figure>"
            for svg, caption in self.figures
        ]
        return '<div class="figures">' + "\n".join(parts) + "</div>"


@dataclass(frozen=True)
class Table:
    """A table; columns whose values are all numbers are set to the right."""

    columns: Sequence[str]
    """Headings, with units."""
    rows: Sequence[Sequence[Value]]
    """One value for each column; floats are rounded to four digits, None is a dash."""
    caption: str = ""
    """Plain text below it."""
    marked: frozenset[tuple[int, int]] = frozenset()
    """(row, column) of values that stand out, such as the best."""
    sortable: bool = False
    """Whether a click on a heading sorts the rows."""

    def html(self) -> str:
        """Markup."""
        numeric = [all(not isinstance(row[k], str) for row in self.rows) for k in range(len(self.columns))]
        kinds = ["" if n else ' class="text"' for n in numeric]
        head = "".join(f"<th{c}>{html.escape(name)}</th>" for c, name in zip(kinds, self.columns, strict=True))
        body = "\n".join(
            "<tr>" + "".join(f"<td{c}>{self._cell(line, k, row[k])}</td>" for k, c in enumerate(kinds)) + "</tr>"
            for line, row in enumerate(self.rows)
        )
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        kind = ' class="sortable"' if self.sortable else ""
        table = f"<table{kind}>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'<div class="scroll">{table}</div>'

    def _cell(self, line: int, column: int, value: Value) -> str:
        """Markup of one value."""
        text = format_value(value)
        return f"<strong>{text}</strong>" if (line, column) in self.marked else text


@dataclass(frozen=True)
class Facts:
    """Names and values; nested mappings become dotted names. Folded away when `folded` has a title."""

    facts: Mapping[str, Any]
    """Plain values, lists and mappings of them."""
    folded: str = ""
    """Title of the line to click; "": always open."""

    def html(self) -> str:
        """Markup."""
        items = "\n".join(f"<dt>{html.escape(k)}</dt><dd>{format_value(v)}</dd>" for k, v in flatten(self.facts))
        body = f'<dl class="facts">{items}</dl>'
        return f"<details><summary>{html.escape(self.folded)}</summary>{body}</details>" if self.folded else body


@dataclass(frozen=True)
class Links:
    """Links to other pages and files, side by side."""

    links: Sequence[tuple[str, str]]
    """(text, address relative to the page)."""

    def html(self) -> str:
        """Markup."""
        parts = [f'<a href="{html.escape(address)}">{html.escape(text)}</a>' for text, address in self.links]
        return f'<p class="quiet">{" · ".join(parts)}</p>'


Block = Text | Figures | Table | Facts | Links


@dataclass(frozen=True)
class Section:
    """A heading with blocks under it."""

    title: str
    """Plain text; also the entry in the list of contents."""
    blocks: Sequence[Block]
    """In order."""

    @property
    def anchor(self) -> str:
        """Target of the link in the list of contents."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"

    def html(self) -> str:
        """Markup."""
        body = "\n".join(block.html() for block in self.blocks)
        return f'<section id="{self.anchor}"><h2>{html.escape(self.title)}</h2>\n{body}</section>'


@dataclass(frozen=True)
class Card:
    """A large number at the head of the page."""

    label: str
    """What it is."""
    value: str
    """Number, rounded by the caller."""
    unit: str = ""
    """Its unit, or a note."""


def render(title: str, subtitle: str, cards: Sequence[Card], sections: Sequence[Section]) -> str:
    """The whole page as text."""
    room = files("rutile.train")
    template = Template(room.joinpath("report.html").read_text(encoding="utf-8"))
    blocks = "\n".join(
        f'<section id="{s.anchor}"><h2>{html.escape(s.title)}</h2>\n'
        + "\n".join(b.html() for b in s.blocks)
        + "</section>"
        for s in sections
    )
    contents = "\n".join(f'<li><a href="#{s.anchor}">{html.escape(s.title)}</a></li>' for s in sections)
    numbers = "\n".join(
        f'<div class="card"><dt>{html.escape(c.label)}</dt>'
        f"<dd>{html.escape(c.value)} <small>{html.escape(c.unit)}</small></dd></div>"
        for c in cards
    )
    return template.substitute(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        css=room.joinpath("report.css").read_text(encoding="utf-8"),
        cards=f'<dl class="cards">{numbers}</dl>' if cards else "",
        contents=contents,
        sections=blocks,
        version=html.escape(rutile.__version__),
        script=SORTING if 'class="sortable"' in blocks else "",
    )


def format_value(value: Any) -> str:
    """One value as escaped text: four digits for floats, a dash for None, the number of entries of nested lists."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format_number(value)
    if isinstance(value, list | tuple) and any(isinstance(v, Mapping | list | tuple) for v in value):
        return f"({len(value)} entries)"
    if isinstance(value, list | tuple):
        return ", ".join(format_value(v) for v in value)
    return html.escape(str(value))


def format_number(value: float) -> str:
    """Four significant digits, plain where that is readable, with a true minus sign."""
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.4g}" if value == 0 or 1e-4 <= abs(value) < 1e4 else f"{value:.3e}"
    if 1e4 <= abs(value) < 1e7:
        text = f"{value:.1f}"
    return text.replace("-", "−") if "e" not in text else text


def flatten(facts: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """(dotted name, value) of nested mappings, in order."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
