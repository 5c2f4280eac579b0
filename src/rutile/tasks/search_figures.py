"""Figures of searches: the family tree of a structure, energies by what made them, and pictures of structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rutile.build.bonds import LONGEST
from rutile.structures.fingerprint import pairs_within
from rutile.tasks.property_figures import Line, panel
from rutile.train.drawing import INK, STYLE, look, square, svg

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.search.past import Done

MOST_RELATIVES = 60
"""Structures of a family tree at most: the youngest."""
MOST_ATOMS = 300
"""Atoms of a picture, with copies at most."""
SEEN_FROM = np.array([0.35, -1.0, 0.3])
"""Direction from which structures are looked at."""
FROM_ABOVE = np.array([0.1, -0.35, 1.0])
"""Direction from which slabs are."""


def family_tree(family: Sequence[Done], over: str = "the lowest") -> str:
    """A structure and what it descends from: generation over energy, each line in the colour of what made the child.

    Args:
        family: the youngest first, as of `results.lineage`; at least one.
        over: what their energies are above.
    """
    shown = {d.number: d for d in family[:MOST_RELATIVES]}
    depth = _generations(shown)
    energy = {k: d.energy for k, d in shown.items()}
    lowest = min((e for e in energy.values() if np.isfinite(e)), default=0.0)
    names = list(dict.fromkeys(d.operator for d in shown.values()))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 3.8), layout="constrained")
        axes = figure.add_subplot()
        axes.set(title="Family tree", xlabel="generation", ylabel=f"energy above {over} (eV/atom)")
        for k, d in shown.items():
            for parent in d.parents:
                if parent in shown:
                    colour = look(names.index(d.operator))
                    axes.plot(
                        [depth[parent], depth[k]], [energy[parent] - lowest, energy[k] - lowest], linewidth=1, **colour
                    )
        for n, name in enumerate(names):
            mine = [k for k in shown if shown[k].operator == name]
            x, y = [depth[k] for k in mine], [energy[k] - lowest for k in mine]
            axes.plot(x, y, "o", markersize=5, color=look(n)["color"], label=name)
        for k in shown:
            axes.annotate(str(k), (depth[k], energy[k] - lowest), (3, 3), textcoords="offset points", fontsize=6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return svg(figure)


def _generations(shown: Mapping[int, Done]) -> dict[int, int]:
    """How far each is from the farthest of its ancestors that is shown."""
    out: dict[int, int] = {}
    for k in sorted(shown):  # parents are older, and have smaller numbers
        out[k] = 1 + max((out[p] for p in shown[k].parents if p in out), default=-1)
    return out


def energies_by_operator(operators: Sequence[str], energy: np.ndarray) -> str:
    """The lowest energy so far of what each operator made, over the structures relaxed.

    Args:
        operators: what made each structure.
        energy: of each (eV/atom); NaN: failed.
    """
    made, good = np.array(operators), np.isfinite(energy)
    above = energy - energy[good].min()
    top = float(np.quantile(above[good], 0.5))
    lines = []
    for n, name in enumerate(sorted(set(made[good]))):
        mine = np.flatnonzero(good & (made == name))
        lowest = np.minimum.accumulate(above[mine])
        near = lowest <= max(top, lowest[-1])
        ends, steps = np.append(mine[near] + 1, len(made)), np.append(lowest[near], lowest[-1])
        lines.append(Line(name, np.repeat(ends, 2)[1:], np.repeat(steps, 2)[:-1], colour=n))
    label = "energy above the lowest (eV/atom)"
    return panel("Lowest by operator", "structures relaxed", label, lines, beside=True)


def portrait(atoms: Atoms) -> str:
    """A structure as balls in the colours of Jmol, lines between bonded atoms, the cell; fixed atoms are pale."""
    body = _body(atoms)
    view = FROM_ABOVE if "move_mask" in atoms.arrays else SEEN_FROM
    side, up = _axes_of_view(view)
    flat, depth = body.positions @ np.array([side, up]).T, body.positions @ view
    order = np.argsort(depth)
    with mpl.rc_context(STYLE):
        figure, axes = square("")
        edges = [np.array(edge) @ np.array([side, up]).T for edge in _edges(atoms)]
        for line in edges:
            axes.plot(*line.T, color=INK, linewidth=0.6, alpha=0.5)
        i, j, d = pairs_within(body.positions, np.zeros((3, 3)), np.zeros(3, dtype=bool), 3.6)
        r = covalent_radii[body.numbers]
        for a, b in np.stack([i, j], 1)[d < LONGEST * (r[i] + r[j])]:
            axes.plot(*flat[[a, b]].T, color=INK, linewidth=1.0, alpha=0.4)
        size = 1.1 * r[order]
        colours = jmol_colors[body.numbers]
        if "move_mask" in body.arrays:
            colours = np.where(body.arrays["move_mask"][:, None], colours, 0.3 * colours + 0.7)
        balls = EllipseCollection(
            size, size, np.zeros(len(size)), units="xy", offsets=flat[order], transOffset=axes.transData,
            facecolors=colours[order], edgecolors=INK, linewidths=0.5, zorder=3,
        )  # fmt: skip
        axes.add_collection(balls)
        low, high = (np.array(x) for x in (flat.min(0) - 1, flat.max(0) + 1))
        for line in edges:
            low, high = np.minimum(low, line.min(0) - 0.3), np.maximum(high, line.max(0) + 0.3)
        axes.set(aspect="equal", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.set_axis_off()
        return svg(figure)


def _body(atoms: Atoms) -> Atoms:
    """The atoms that are drawn: of periodic ones those of the cell, with copies on its faces."""
    if not atoms.pbc.any():
        return atoms
    wrapped = atoms.copy()
    wrapped.wrap()
    out = wrapped.copy()
    for axis in np.flatnonzero(atoms.pbc):
        scaled = out.get_scaled_positions(wrap=False)
        faces = out[np.flatnonzero(np.abs(scaled[:, axis]) < 0.02)]
        faces.positions += atoms.cell.array[axis]
        out = out + faces
    shown: Atoms = out if len(out) <= MOST_ATOMS else wrapped[: min(len(wrapped), MOST_ATOMS)]
    return shown


def _edges(atoms: Atoms) -> list[tuple[np.ndarray, np.ndarray]]:
    """Edges of the cell along periodic directions."""
    axes = np.flatnonzero(atoms.pbc)
    out = []
    for a in axes:
        others = [o for o in axes if o != a]
        for corner in np.ndindex(*(2,) * len(others)):
            start = sum((k * atoms.cell.array[o] for k, o in zip(corner, others, strict=True)), np.zeros(3))
            out.append((start, start + atoms.cell.array[a]))
    return out


def _axes_of_view(direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """To the right and upwards on the picture."""
    side = np.cross([0.0, 0.0, 1.0], direction)
    side /= np.linalg.norm(side)
    up = np.cross(direction, side)
    return side, up / np.linalg.norm(up)
