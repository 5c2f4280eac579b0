"""`rutile binding`: binding energies of guests in frameworks, with and without dispersion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from rutile.core.errors import GeometryError, SettingsError
from rutile.core.files import folder_for_results
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import Angstrom, ElectronVolt
from rutile.potentials.settings.stored import stored_dispersion
from rutile.simulate.adsorb_settings import BindSettings
from rutile.simulate.settings import RelaxSettings
from rutile.tasks.apply import model_content
from rutile.tasks.property import DONE, GivenProperty, PropertyResult, begin, part, table_of, write_result
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.potentials.potential import Potential
    from rutile.simulate.binding import Binding, Bound, Start
    from rutile.tasks.property import Work


class BindTaskSettings(BindSettings, GivenProperty):
    """Frameworks, and what is put into them."""

    guests: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1)
    """Names that ASE knows such as H2O, CO2 or Ar (an atom), files, or SMILES (needs rdkit)."""
    out: Path = Path("binding")
    """Folder for table.csv, bound.extxyz (the best of each), report.html and result.json. The same command goes on
    where it was stopped."""

    @classmethod
    def suited(cls, data: Any) -> Any:
        """No D3 besides, where the model has it in it and nothing else is given."""
        if not isinstance(data, dict) or not isinstance(data.get("model"), str | Path):
            return data
        return ({"dispersion": None} if stored_dispersion(Path(data["model"])) else {}) | data


class BindRow(Result):
    """One number of one guest in one host."""

    structure: str
    """File and 0-based frame number of the host."""
    formula: str
    """Its composition."""
    guest: str
    """Its name."""
    guests: int
    """How many."""
    outcome: str
    """done, or what went wrong."""
    energy: ElectronVolt
    """Binding energy of each guest by the model, negative if bound."""
    energy_std: ElectronVolt | None = None
    """Standard deviation of a committee, at the structures of its mean."""
    energy_d3: ElectronVolt | None = None
    """Binding energy of each guest by the model with D3(BJ)."""
    energy_d3_std: ElectronVolt | None = None
    """Standard deviation of a committee."""
    dispersion: ElectronVolt | None = None
    """What D3 changes: energy_d3 - energy."""
    distance: Angstrom
    """Shortest distance between guests and host at the best minimum, with D3 if it is there."""
    starts: int = Field(repr=False)
    """Structures that were relaxed."""
    whole: int = Field(repr=False)
    """Of these, minima with whole guests (by the model alone)."""


class BindResult(PropertyResult):
    """Binding energies, host by host."""

    binding: list[BindRow]
    """One row for each host, guest and number."""
    structures: Path
    """The best minimum of each row, with D3 if it is there."""


def run(settings: BindTaskSettings, reporter: Reporter) -> BindResult:
    """Binding energies of molecules in frameworks, from several starts, with and without D3 dispersion.

    Raises:
        GeometryError: a host is not periodic, or has no room for the guests.
        SettingsError: a guest is not known, or the model has dispersion in it.
    """
    from rutile.build.molecules_source import molecule_called
    from rutile.build.recipe import Refused
    from rutile.simulate.binding import starts
    from rutile.structures.io import write_frames
    from rutile.tasks.apply import plain

    guests = {name: molecule_called(name, settings.seed) for name in settings.guests}
    work = begin(settings, reporter)
    _require(work, guests, settings)
    hosts = [plain(frame) for frame in work.frames]
    with folder_for_results(settings.out), ExitStack() as stack:
        try:
            made = starts(hosts, guests, part(settings, BindSettings))
        except Refused as why:
            raise GeometryError(f"{why}; take fewer guests, a larger cell, or a smaller apart") from None
        kinds = [None, settings.dispersion] if settings.dispersion else [None]
        found = [_found(kind, settings, work, (hosts, guests, made), stack, reporter) for kind in kinds]
        rows = _rows(found, work, list(guests), reporter)
        result = BindResult(
            binding=rows,
            structures=settings.out / "bound.extxyz",
        )
        images = _images(found[-1].binding, rows)
        write_frames(result.structures, images)
        result = write_result(settings.out, result, rows, _page(rows, images, settings))
    return result


@dataclass(frozen=True)
class _Found:
    """What one model says, with or without dispersion."""

    binding: Binding
    energies: list[float]
    """Of the best minimum of each row (eV for each guest)."""
    std: list[float | None]
    """Of a committee (eV)."""


def _require(work: Work, guests: Mapping[str, Atoms], settings: BindTaskSettings) -> None:
    """Refuse what cannot be done."""
    import torch

    from rutile.potentials.checks import check_structures
    from rutile.potentials.dispersion import Dispersion
    from rutile.structures.structures import Structures

    names = [f"guest {name}" for name in guests]
    check_structures(Structures.from_ase(list(guests.values())), work.potential.elements, names)
    for frame in work.frames:
        if not frame.pbc.all():
            raise GeometryError(f"{frame.source} is not periodic in three directions: no framework")
    model = work.potential
    has_d3 = isinstance(model, torch.nn.Module) and any(isinstance(m, Dispersion) for m in model.modules())
    if settings.dispersion and has_d3:
        raise SettingsError(f"dispersion = {settings.dispersion}: {settings.model} has D3 in it: take dispersion=null")


def _found(
    functional: Literal["pbe", "r2scan"] | None,
    settings: BindTaskSettings,
    work: Work,
    given: tuple[list[Atoms], Mapping[str, Atoms], Sequence[Start]],
    stack: ExitStack,
    reporter: Reporter,
) -> _Found:
    """Minima and energies by the model alone, or with D3."""
    from rutile.simulate.binding import bind
    from rutile.tasks.kept_relaxations import Stages

    hosts, guests, made = given
    elements = {int(z) for atoms in (*hosts, *guests.values()) for z in atoms.numbers}
    potential = with_dispersion(work.potential, functional, elements)
    how = RelaxSettings(fmax=settings.fmax, max_steps=settings.max_steps)
    folder = settings.out / f".{functional or 'model'}"
    stack.callback(lambda: folder.rmdir() if folder.is_dir() and not any(folder.iterdir()) else None)
    content = model_content(settings.model) + (functional or "").encode()
    stages = stack.enter_context(Stages(folder, settings, content, potential, how, reporter))
    binding = bind(hosts, guests, made, settings, stages)
    energies = _energies(binding, None)
    theirs = [_energies(binding, with_dispersion(m, functional, elements)) for m in work.members]
    std: list[float | None] = [None] * len(energies)
    if theirs:
        std = [float(x) for x in np.std(theirs, axis=0)]
    return _Found(binding, energies, std)


def with_dispersion(potential: Potential, functional: Literal["pbe", "r2scan"] | None, elements: set[int]) -> Potential:
    """A potential with D3(BJ) added; itself where no functional is named.

    Args:
        potential: any.
        functional: whose damping parameters.
        elements: atomic numbers of the structures that it will be used for.

    Raises:
        ElementError: an element that D3 has no parameters for.
    """
    from rutile.potentials.combine import Added
    from rutile.potentials.dispersion import Dispersion
    from rutile.potentials.placement import placement
    from rutile.potentials.settings import DispersionSettings

    if functional is None:
        return potential
    dtype, device = placement(potential)
    term = Dispersion(DispersionSettings(functional=functional), tuple(sorted(elements)))
    return Added([potential, term.to(dtype=dtype, device=device).eval().requires_grad_(False)])


def _energies(binding: Binding, potential: Potential | None) -> list[float]:
    """Binding energies of the best minima (eV for each guest), by the energies kept or by another potential's."""
    from rutile.core.reporting import SilentReporter
    from rutile.simulate.forces import evaluate_many
    from rutile.structures.structures import concatenate

    every = [b.ends[0] for b in binding.found] + list(binding.hosts) + list(binding.guests)
    energy, batch = [m.energy for m in every], concatenate(m.structure for m in every)
    if potential is not None:
        energy = evaluate_many(batch, potential, 2000, SilentReporter()).energy.tolist()
    n, h = len(binding.found), len(binding.hosts)
    return [
        binding.energy(b, e, energy[n : n + h], energy[n + h :]) for b, e in zip(binding.found, energy[:n], strict=True)
    ]


def _rows(found: Sequence[_Found], work: Work, guests: Sequence[str], reporter: Reporter) -> list[BindRow]:
    """The table."""
    names, rows = work.names(), []
    plain, last = found[0], found[-1]
    for k, bound in enumerate(plain.binding.found):
        source, composition = names[bound.host]
        why = [w for one in found for w in _wrong(one.binding, k)]
        with_d3 = len(found) > 1
        row = BindRow(
            structure=source,
            formula=composition,
            guest=guests[bound.guest],
            guests=bound.count,
            outcome=why[0] if why else DONE,
            energy=plain.energies[k],
            energy_std=plain.std[k],
            energy_d3=last.energies[k] if with_d3 else None,
            energy_d3_std=last.std[k] if with_d3 else None,
            dispersion=last.energies[k] - plain.energies[k] if with_d3 else None,
            distance=_distance(last.binding.found[k], last.binding),
            starts=len(bound.ends),
            whole=sum(not end.failure and not c for end, c in zip(bound.ends, bound.conditions, strict=True)),
        )
        rows.append(row)
        if row.outcome != DONE:
            reporter.warn(f"{row.guests} {row.guest} in {source}: {row.outcome}")
    return rows


def _wrong(binding: Binding, k: int) -> list[str]:
    """What went wrong with a row."""
    bound = binding.found[k]
    texts = [
        bound.ends[0].failure,
        f"guest {bound.conditions[0]}" if bound.conditions[0] else "",
        binding.hosts[bound.host].failure and f"host alone: {binding.hosts[bound.host].failure}",
        binding.guests[bound.guest].failure and f"guest alone: {binding.guests[bound.guest].failure}",
    ]
    return [text for text in texts if text]


def _distance(bound: Bound, binding: Binding) -> float:
    """Shortest distance between guests and host in the best minimum (Angstrom)."""
    atoms = bound.ends[0].atoms
    host = binding.hosts[bound.host].structure.n_atoms
    return float(min(atoms.get_distances(k, np.arange(host), mic=True).min() for k in range(host, len(atoms))))


def _images(binding: Binding, rows: Sequence[BindRow]) -> list[Atoms]:
    """The best of each row as it is written."""
    out = []
    for bound, row in zip(binding.found, rows, strict=True):
        atoms = bound.ends[0].atoms
        atoms.info = {"source": row.structure, "guest": row.guest, "guests": row.guests, "outcome": row.outcome}
        atoms.info["binding_energy"] = row.energy if row.energy_d3 is None else row.energy_d3
        out.append(atoms)
    return out


def _page(rows: Sequence[BindRow], images: Sequence[Atoms], settings: BindTaskSettings) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, panel
    from rutile.train.figures import structure
    from rutile.train.report import Card, Facts, Figures, Section, render

    names = ["structure", "formula", "guest", "guests", "energy", "energy_std", "energy_d3", "energy_d3_std",
             "dispersion", "distance", "starts", "whole", "outcome"]  # fmt: skip
    places = list(range(len(rows)))
    lines = [Line("model", places, [row.energy for row in rows], points=True)]
    with_d3 = [(k, row.energy_d3) for k, row in zip(places, rows, strict=True) if row.energy_d3 is not None]
    if with_d3:
        lines.append(Line("with D3", [k for k, _ in with_d3], [e for _, e in with_d3], points=True))
    pictures = [
        (structure(atoms), f"{row.guests} {row.guest} in {row.structure}")
        for atoms, row in list(zip(images, rows, strict=True))[:MOST_CURVES]
    ]
    figure = panel("Binding", "", "eV for each guest", lines, names=[f"{row.guests} {row.guest}" for row in rows])
    table = table_of(rows, names, "Energies for each guest; negative: bound. Cells as given.")
    sections = [
        Section("Best structures", [Figures(pictures)]),
        Section("Binding energies", [Figures([(figure, "")]), *table]),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]  # fmt: skip
    return render("Binding in frameworks", str(settings.model), [Card("rows", str(len(rows)))], sections)


TASK = Task(
    "binding",
    BindTaskSettings,
    BindResult,
    run,
    positional="structures",
    examples=(
        "rutile binding mof74.cif model=run guests=H2O counts=1,6",
        "rutile binding zeolite.cif model=lennard_jones guests=Ar held=true starts=16",
    ),
)
