"""`rutile hop`: how a species moves through a crystal, its barriers by crystallographic direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from rutile.build.settings import Element
from rutile.core.describe import units_of
from rutile.core.elements import number
from rutile.core.errors import GeometryError, SettingsError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import Angstrom, ElectronVolt, WaveNumber
from rutile.simulate.settings import Repeat
from rutile.tasks.apply import frame_of
from rutile.tasks.barrier import PROFILES, BarrierRow, FollowSettings, curves, follow
from rutile.tasks.property import DONE, PropertyResult, Work, as_csv, begin, kept_by_model, table_of, write_result
from rutile.tasks.task import Task

if TYPE_CHECKING:
    import torch

    from rutile.simulate.hops import Hop, Net, Sites
    from rutile.simulate.keeper import Keeper
    from rutile.simulate.neb import Band
    from rutile.structures.structures import Structures

Miller = tuple[int, int, int]
AXES: tuple[Miller, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
MARGIN = 1.1
"""Hops up to so many times the least length that is needed are looked at."""


class HopTaskSettings(FollowSettings):
    """What hops in which crystals, where to, and how that is computed."""

    species: Element
    """What hops."""
    mechanism: Literal["vacancy", "interstitial"] = "vacancy"
    """vacancy: an atom of the species hops into an empty place of its own kind. interstitial: one more atom hops
    between places that are free in the crystal."""
    directions: tuple[Miller, ...] = ()
    """Lattice vectors [u v w] of the given cell along which routes are looked for; empty: the three axes."""
    longest: Annotated[Angstrom, Field(gt=0)] | None = None
    """Longest hop; null: a tenth more than what it takes to get along all directions."""
    detour: float = Field(default=1.7, ge=1)
    """A route may be so many times as long as the straight way (dimensionless)."""
    sites: tuple[tuple[float, float, float], ...] = ()
    """Places of interstitial atoms in fractions of the cell, one of each kind; empty: the widest holes."""
    holes: int = Field(default=1, ge=1)
    """Kinds of holes that are used, the widest first."""
    rattle: Angstrom = Field(default=0.05, ge=0, le=0.5)
    """Atoms between the ends of the first path are displaced at random by so much: straight ways of ions often are
    ridges of high symmetry."""
    framework: Literal["relaxed", "held"] = "relaxed"
    """relaxed: the crystal (with its cell) and all atoms of the supercells relax. held: only the atom that hops moves,
    the others stay where the file has them; quick, and an upper bound."""
    supercell: tuple[Repeat, Repeat, Repeat] | None = None
    """Repeats of the cell along its three vectors; without it as many as make each vector at least `length` long."""
    length: Angstrom = Field(default=10.0, gt=0)
    """Of the vectors of the supercell."""
    out: Path = Path("hops")
    """Folder for table.csv (barriers by direction), hops.csv, ends.extxyz (beginnings and ends of the hops),
    paths.extxyz, saddles.extxyz, profiles.csv, report.html and result.json. A run that was stopped goes on."""


class HopRow(Result):
    """Hops of one crystal that symmetry makes equal."""

    structure: str
    """File and 0-based frame number of the crystal."""
    formula: str
    """Composition of the crystal."""
    hop: int
    """Its number, from 1, shortest first."""
    distance: Angstrom
    """Between the sites before relaxation."""
    outcome: str
    """done, or what went wrong."""
    barrier: ElectronVolt | None
    """Of the hop."""
    barrier_std: ElectronVolt | None
    """Standard deviation of a committee."""
    reverse_barrier: ElectronVolt | None
    """Of the hop back."""
    equal: int
    """Hops in the cell that symmetry makes equal."""
    way: tuple[float, float, float]
    """Of one of them, in fractions of the cell (dimensionless)."""
    imaginary: int | None
    """Imaginary modes of the highest image: 1 at a saddle point."""
    wave_number: WaveNumber | None
    """Of the softest mode of the highest image; negative: imaginary."""
    steps: int | None
    """Steps of the elastic band."""


class DirectionRow(Result):
    """How to get along one lattice vector of one crystal."""

    structure: str
    """File and 0-based frame number of the crystal."""
    formula: str
    """Composition of the crystal."""
    direction: str
    """Lattice vector, such as [1 1 1]."""
    through: bool
    """Whether hops lead through the crystal along it."""
    outcome: str
    """done, or what went wrong with a hop of the route."""
    barrier: ElectronVolt | None
    """Highest saddle of the best route above its lowest site."""
    barrier_std: ElectronVolt | None
    """Standard deviation of a committee about the hop over that saddle."""
    hops: str
    """Numbers of the hops of the route, in order."""
    length: Angstrom | None
    """Of the route."""
    straight: Angstrom
    """Of the lattice vector."""


class HopTaskResult(PropertyResult):
    """Barriers by direction, and the hops that they come from."""

    directions: list[DirectionRow]
    """One row for each direction of each crystal."""
    hops: list[HopRow]
    """One row for each distinct hop of each crystal."""
    images: Path
    """All images of all hops."""


@dataclass(frozen=True)
class _Crystal:
    """A crystal with what can happen in it."""

    source: str
    formula: str
    sites: Sites
    hops: list[Hop]
    net: Net
    turned: bool
    """Its vectors are minus those of the file, which were left-handed."""


def run(settings: HopTaskSettings, reporter: Reporter) -> HopTaskResult:
    """How a species hops through crystals: distinct hops, their barriers in one batch, and barriers by direction.

    Raises:
        GeometryError: a crystal has no such sites, or they do not hang together along a direction.
        SettingsError: settings do not fit together.
    """
    from rutile.structures.io import write_frames
    from rutile.structures.structures import Structures, concatenate

    if settings.cell:
        raise SettingsError("cell=true: hops are computed in the cell of the crystal; leave it out")
    if settings.sites and settings.mechanism == "vacancy":
        raise SettingsError("sites: they are those of interstitial atoms; say mechanism=interstitial")
    given = begin(settings, reporter)
    with folder_for_results(settings.out), kept_by_model(settings, reporter) as keeper:
        crystals = _crystals(settings, given, keeper, reporter)
        ends, fixed = _ends(settings, crystals)
        starts, stops = [a for a, _ in ends], [b for _, b in ends]
        names = [f"{c.source} hop {n}" for c in crystals for n in range(1, len(c.hops) + 1)]
        frames = [frame_of(one, name) for one, name in zip([*starts, *stops], names * 2, strict=True)]
        work = Work(frames, concatenate([*starts, *stops]), given.potential, given.members, ())
        images = Structures.to_ase(work.structures)
        for atoms, name in zip(images, names * 2, strict=True):
            atoms.info["hop"] = name
        write_frames(settings.out / "ends.extxyz", images)
        found, bands = follow(settings, work, fixed, keeper, reporter, strict=False)
        hops, directions = _rows(settings, crystals, found, bands)
        result = HopTaskResult(
            directions=directions,
            hops=hops,
            images=settings.out / "paths.extxyz",
        )
        write_atomically(settings.out / "hops.csv", as_csv(hops))
        page = _page(settings, crystals, directions, hops, found, bands)
        units = {"hops.csv": units_of(HopRow), "profiles.csv": PROFILES}
        result = write_result(settings.out, result, directions, page, units)
    return result


def _crystals(settings: HopTaskSettings, given: Work, keeper: Keeper, reporter: Reporter) -> list[_Crystal]:
    """The crystals at their minima, with the hops that can be on a route."""
    from rutile.simulate.eos import require_crystals
    from rutile.simulate.keeper import keeping
    from rutile.simulate.relax import relax
    from rutile.simulate.settings import RelaxSettings

    require_crystals(given.structures, "a hop through a crystal", given.sources())
    structures = given.structures
    if settings.relax and settings.framework == "relaxed":
        with keeping(keeper):
            done = relax(structures, given.potential, RelaxSettings(fmax=settings.fmax / 3, cell="full"), reporter)
        structures = done.structures
        for frame, ok, why in zip(given.frames, done.converged.tolist(), done.failure, strict=True):
            if not ok:
                raise GeometryError(f"{frame.source} does not relax: {why or 'out of steps'}")
    out = []
    for (source, name), turned, one in zip(given.names(), given.turned(), structures.split(), strict=True):
        try:
            out.append(_crystal(settings, source, name, one, turned))
        except GeometryError as error:
            raise GeometryError(f"{source} ({name}): {error}") from None
    return out


def _crystal(settings: HopTaskSettings, source: str, name: str, one: Structures, turned: bool) -> _Crystal:
    """Sites, hops and net of one crystal."""
    from rutile.simulate.hops import Net, additional_sites, distinct_hops, length_along, reaching, vacancy_sites

    z, directions = number(settings.species), settings.directions or AXES
    if not all(map(any, directions)):
        raise SettingsError("directions: [0, 0, 0] is no direction: give lattice vectors [u v w] such as [1, 1, 0]")
    if settings.mechanism == "vacancy":
        sites = vacancy_sites(one, z)
    else:
        given = [[-x if turned else x for x in site] for site in settings.sites]
        sites = additional_sites(one, z, given, settings.holes)
    longest = settings.longest or MARGIN * reaching(sites, directions, settings.detour)
    hops = distinct_hops(sites, longest)
    net, used = Net(sites, hops), set[int]()
    for direction in directions:
        used |= net.used(direction, settings.detour * length_along(sites, direction))
    hops = [hop for k, hop in enumerate(hops) if k in used]
    if not hops:
        raise GeometryError(
            f"no hop of up to {longest:.2f} Å leads along any of the directions: raise longest or detour"
        )
    return _Crystal(source, name, sites, hops, Net(sites, hops), turned)


def _ends(
    settings: HopTaskSettings, crystals: Sequence[_Crystal]
) -> tuple[list[tuple[Structures, Structures]], list[torch.Tensor]]:
    """Beginnings and ends of all hops, and the atoms that stay in each."""
    import torch

    from rutile.simulate.hops import end_points
    from rutile.simulate.supercells import repeats

    ends, fixed = [], []
    for crystal in crystals:
        times = repeats(crystal.sites.crystal, settings.supercell, settings.length)
        for hop in crystal.hops:
            try:
                before, after, mover = end_points(crystal.sites, hop.members[0], times)
            except GeometryError as error:
                raise GeometryError(f"{crystal.source} ({crystal.formula}): {error}") from None
            held = torch.full((before.n_atoms,), settings.framework == "held")
            held[mover] = False
            ends.append((before, after))
            fixed.append(held)
    return ends, fixed


def _rows(
    settings: HopTaskSettings, crystals: Sequence[_Crystal], found: Sequence[BarrierRow], bands: Sequence[Band | None]
) -> tuple[list[HopRow], list[DirectionRow]]:
    """What is to be said about hops and directions."""
    hops: list[HopRow] = []
    directions: list[DirectionRow] = []
    for crystal in crystals:
        first = len(hops)
        for n, hop in enumerate(crystal.hops):
            row, way = found[first + n], crystal.sites.way(hop.members[0]) @ np.linalg.inv(crystal.sites.cell)
            x, y, z = (round(float(-v if crystal.turned else v), 6) for v in way)
            facts = {k: getattr(row, k) for k in ("outcome", "barrier", "barrier_std", "reverse_barrier", "imaginary",
                                                  "wave_number", "steps")}  # fmt: skip
            hops.append(
                HopRow(
                    structure=crystal.source, formula=crystal.formula, hop=n + 1, way=(x, y, z), distance=hop.length,
                    equal=len(hop.members), **facts,
                )
            )  # fmt: skip
        mine = bands[first : len(hops)]
        directions += [
            _direction(crystal, direction, settings.detour, hops[first:], mine)
            for direction in settings.directions or AXES
        ]
    return hops, directions


def _direction(
    crystal: _Crystal, direction: Miller, detour: float, rows: Sequence[HopRow], bands: Sequence[Band | None]
) -> DirectionRow:
    """The best route along a lattice vector."""
    from rutile.simulate.hops import length_along

    tops = [None if band is None or band.failure else float(band.energy.max()) for band in bands]
    straight = length_along(crystal.sites, direction)
    route = crystal.net.lowest(direction, detour * straight, tops)
    row = DirectionRow(
        structure=crystal.source, formula=crystal.formula, direction=f"[{' '.join(map(str, direction))}]",
        through=False, outcome="no route with the hops that have a barrier", barrier=None, barrier_std=None, hops="",
        length=None, straight=straight,
    )  # fmt: skip
    if route is None:
        return row
    highest = max(route.hops, key=lambda n: tops[n] or -np.inf)
    lowest = min(float(band.energy[[0, -1]].min()) for n in route.hops if (band := bands[n]) is not None)
    wrong = [f"hop {n + 1}: {rows[n].outcome}" for n in route.hops if rows[n].outcome != DONE]
    found = {
        "through": True, "outcome": wrong[0] if wrong else DONE, "barrier": (tops[highest] or 0.0) - lowest,
        "barrier_std": rows[highest].barrier_std, "hops": " ".join(str(n + 1) for n in route.hops),
        "length": route.length,
    }  # fmt: skip
    return row.model_copy(update=found)


def _profile(crystal: _Crystal, row: DirectionRow, bands: Sequence[Band | None]) -> tuple[np.ndarray, np.ndarray]:
    """Energy along a route: way (Å) and energy above its lowest site (eV)."""
    from rutile.simulate.hops import leads_forward

    route = crystal.net.lowest(
        tuple(int(n) for n in row.direction.strip("[]").split()), (row.length or 0.0) + 1e-6,
        [None if band is None or band.failure else float(band.energy.max()) for band in bands],
    )  # fmt: skip
    assert route is not None
    x, y, far = [], [], 0.0
    for edge, n in zip(route.edges, route.hops, strict=True):
        band = bands[n]
        assert band is not None
        at, energy = (v.numpy() for v in band.curve())
        if not leads_forward(crystal.sites, crystal.hops[n].members[0], edge):
            at, energy = at[-1] - at[::-1], energy[::-1]
        x.append(far + at)
        y.append(energy)
        far += float(at[-1])
    energies = np.concatenate(y)
    return np.concatenate(x), energies - energies.min()


def _page(
    settings: HopTaskSettings,
    crystals: Sequence[_Crystal],
    directions: Sequence[DirectionRow],
    hops: Sequence[HopRow],
    found: Sequence[BarrierRow],
    bands: Sequence[Band | None],
) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, panel
    from rutile.train.report import Card, Facts, Figures, Section, render

    figures, first = [], 0
    for crystal in crystals[:MOST_CURVES]:
        mine = bands[first : first + len(crystal.hops)]
        first += len(crystal.hops)
        rows = [r for r in directions if r.structure == crystal.source and r.through]
        lines = [Line(r.direction, *_profile(crystal, r, mine)) for r in rows]
        if lines:
            title = f"{settings.species} in {crystal.formula}"
            figures.append((panel(title, "way (Å)", "energy (eV)", lines), crystal.source))
    names = ["structure", "formula", "direction", "through", "outcome", "barrier", "barrier_std", "hops", "length",
             "straight"]  # fmt: skip
    hop_names = ["structure", "hop", "distance", "equal", "outcome", "barrier", "barrier_std", "reverse_barrier",
                 "imaginary", "wave_number"]  # fmt: skip
    note = "Highest saddle of the best route above its lowest site."
    sections = [
        Section("Along directions", [Figures(figures), *table_of(directions, names, note)]),
        Section("Hops", [*table_of(hops, hop_names), Figures(curves(found, bands))]),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    cards = [Card("crystals", str(len(crystals))), Card("distinct hops", str(len(hops)))]
    return render(f"Hops of {settings.species}", str(settings.model), cards, sections)


TASK = Task(
    "hop",
    HopTaskSettings,
    HopTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile hop copper.cif species=Cu model=emt",
        "rutile hop tavorite.cif species=Li directions=[[1,1,1],[1,0,1],[1,0,0]] model=run supercell=2,2,2",
        "rutile hop palladium.cif species=H mechanism=interstitial model=run",
    ),
)
