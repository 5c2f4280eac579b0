"""The page about trajectories: where atoms are and how they move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rutile.core.elements import symbol
from rutile.tasks.property import table_of
from rutile.tasks.property_figures import MOST_CURVES, Line, panel
from rutile.train.report import Block, Card, Facts, Figures, Section, Table, Text, Value, render

if TYPE_CHECKING:
    from rutile.tasks.analyse import AnalyseResult, Seen

MOST_LINES = 6
"""Lines in one panel."""
FASTEST = 4500.0
"""Spectra are drawn up to this wave number at most (1/cm)."""


def page(result: AnalyseResult, seen: Sequence[Seen], settings: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        result: of the task.
        seen: what each trajectory says.
        settings: of the task, as JSON values.
    """
    drawn = seen[:MOST_CURVES]
    sections = [
        _motion(result, drawn),
        Section("Where atoms are", _structure(result, drawn)),
        Section("Vibrations", [Figures([_spectrum(one) for one in drawn if one.spectrum])]),
    ]
    if any(one.viscosity is not None for one in drawn):
        lines = [Line(_short(one), *one.viscosity) for one in drawn if one.viscosity is not None][:MOST_LINES]
        text = Text("Running integral of Green and Kubo: read it where it is level; noise wins later.")
        figure = panel("Viscosity", "time lag (fs)", "viscosity up to there (mPa s)", lines)
        sections.append(Section("Viscosity", [text, Figures([(figure, "")])]))
    sections.append(Section("Settings", [Facts(dict(settings), "all settings")]))
    cards = [Card("trajectories", str(len(seen)))]
    cards += [
        Card(f"activation of {a.element}", f"{a.energy:.3f}", f"± {a.energy_error:.3f} eV") for a in result.activation
    ]
    cards += [Card("conductivity", f"{v:.3g}", "S/m") for v in list(result.conductivity.values())[:1]]
    return render("Trajectories", ", ".join(_short(one) for one in drawn), cards, sections)


def _motion(result: AnalyseResult, seen: Sequence[Seen]) -> Section:
    """Mean-square displacements, coefficients, activation energies."""
    figures = []
    for one in seen:
        lines = [
            Line(symbol(z), d.lag / 1000, d.msd) for z, d in one.diffusion.items() if not isinstance(d, str)
        ][:MOST_LINES]  # fmt: skip
        if lines:
            title = panel(_short(one), "time lag (ps)", "mean-square displacement (Å²)", lines)
            figures.append((title, one.given.name))
    for fit in result.activation:
        rows = [
            r for r in result.diffusion if r.element == fit.element and r.temperature and r.diffusion and not r.note
        ]
        x = np.array([1000 / float(r.temperature or 1) for r in rows])
        line = np.linspace(x.min(), x.max(), 50)
        curve = fit.prefactor * np.exp(-fit.energy * line / 0.08617333262)
        lines = [
            Line("", line, curve, colour=0),
            Line("", x, [r.diffusion or 0.0 for r in rows], points=True, colour=1),
        ]
        figures.append((panel(f"Diffusion of {fit.element}", "1000 K / T", "D (cm²/s)", lines, log=True), ""))
    names = ["trajectory", "element", "atoms", "temperature", "diffusion", "diffusion_error", "exponent", "note"]
    blocks: list[Block] = [Figures(figures), *table_of(result.diffusion, names, "Einstein; drift taken out.")]
    if result.activation:
        blocks += table_of(result.activation, ["element", "energy", "energy_error", "prefactor"], "Arrhenius.")
    blocks += [Text(one.missing) for one in seen if one.missing]
    if result.conductivity:
        rows_of: list[list[Value]] = [[name, value] for name, value in result.conductivity.items()]
        blocks.append(Table(("trajectory", "conductivity (S/m)"), rows_of, "Nernst-Einstein: ions move independently."))
    return Section("How they move", blocks)


def _structure(result: AnalyseResult, seen: Sequence[Seen]) -> list[Block]:
    """Radial distributions, structure factors, shells."""
    figures = []
    for one in seen:
        once = [r for r in one.radial if r.pair[0] <= r.pair[1]][:MOST_LINES]
        lines = [Line(f"{symbol(r.pair[0])}-{symbol(r.pair[1])}", r.r, r.g) for r in once]
        if lines:
            figures.append((panel(_short(one), "distance (Å)", "g(r)", lines), one.given.name))
        if one.factor is not None:
            figures.append((panel(_short(one), "q (1/Å)", "S(q)", [Line("", *one.factor)]), one.given.name))
    names = ["trajectory", "centre", "neighbour", "radius", "coordination"]
    if not figures:
        return [Text("Radial distributions need structures that are periodic in three directions.")]
    return [Figures(figures), *table_of(result.shells, names)]


def _spectrum(one: Seen) -> tuple[str, str]:
    """Vibrational densities of states of one trajectory."""
    lines = []
    for element, (wave, density) in list(one.spectrum.items())[:MOST_LINES]:
        significant = np.flatnonzero(density > 1e-3 * density.max())
        end = min(len(wave), int(significant[-1] * 1.1) + 2) if len(significant) else len(wave)
        shown = slice(0, min(end, int(np.searchsorted(wave, FASTEST)) + 1))
        lines.append(Line(element, wave[shown], 1000 * density[shown]))
    return panel(_short(one), "wave number (1/cm)", "density of states (10⁻³ cm)", lines), one.given.name


def _short(one: Seen) -> str:
    """A name that fits over a panel."""
    kelvin = f", {one.given.temperature:.0f} K" if one.given.temperature else ""
    return f"{one.given.path.parent.name}/{one.given.path.stem}"[-28:].lstrip("/") + kelvin
