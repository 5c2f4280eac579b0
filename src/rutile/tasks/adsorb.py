"""`rutile adsorb`: adsorption energies of molecules on surfaces, alone and together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from rutile.build.settings import CrystalSource, Miller, Share
from rutile.core.elements import formula
from rutile.core.errors import SettingsError
from rutile.core.files import folder_for_results
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import Angstrom, ElectronVolt
from rutile.simulate.adsorb_settings import AdsorbSettings
from rutile.simulate.settings import RelaxSettings
from rutile.tasks.apply import members_and_bars, model_content, readings_given
from rutile.tasks.held import HeldAtoms, held_atoms, refuse_if_all_held
from rutile.tasks.property import DONE, GivenProperty, PropertyResult, part, write_result
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.potentials.potential import Potential
    from rutile.simulate.adsorb import Adsorbed, Adsorption, Slab
    from rutile.tasks.kept_relaxations import Stages


class AdsorbTaskSettings(AdsorbSettings, HeldAtoms, GivenProperty):
    """Slabs (from files, or cut from crystals that are relaxed first), and what is put on them."""

    structures: list[Path] = []
    """Files, folders or patterns of slabs, their surfaces normal to z; molecules are put on the upper side."""
    crystals: CrystalSource | None = None
    """Crystals that are relaxed with their cells and cut: crystals.files=[cu.cif], or crystals.elements=[Cu] with
    crystals.prototypes=[fcc]."""
    miller: tuple[Miller, ...] = ()
    """Miller indices of the cuts, of the conventional cell; empty: all with components up to 1 that symmetry does not
    make equal."""
    thickness: Angstrom = Field(default=6.0, gt=0)
    """Least thickness of the slabs that are cut."""
    width: Angstrom = Field(default=5.0, gt=0)
    """They are repeated along the surface until both vectors are at least so long."""
    vacuum: Angstrom = Field(default=15.0, gt=0)
    """Empty space above the slabs that are cut."""
    fixed_part: Share = 0.5
    """Lower part of the height of each slab whose atoms stay, where neither the files nor fixed nor fixed_below name
    atoms; 0: none."""
    adsorbates: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1)
    """What is put on them: names that ASE knows such as CO, H2O or O (an atom), files, or SMILES (needs rdkit)."""
    out: Path = Path("adsorption")
    """Folder for table.csv, minima.extxyz (all structures), alone.extxyz (slabs and molecules), report.html and
    result.json. The same command goes on where it was stopped."""


class AdsorbRow(Result):
    """One minimum."""

    slab: str
    """File and 0-based frame number, or crystal and cut."""
    adsorbates: str
    """Such as "CO", or "CO + O"."""
    energy: ElectronVolt
    """Energy of adsorption, negative if bound."""
    energy_std: ElectronVolt | None = None
    """Standard deviation of a committee, at the structures of its mean."""
    site: str
    """At the end; "" if it has desorbed."""
    outcome: str
    """done, or what went wrong with a relaxation."""
    interaction: ElectronVolt | None = None
    """Of several adsorbates: energy above that of all of them alone, each at its lowest minimum."""
    state: str
    """adsorbed, rearranged (other bonds within), dissociated, bonded to another, desorbed, in the slab."""
    starts: str = Field(repr=False)
    """Sites and poses from which this minimum was reached."""
    found: int
    """From how many starts."""
    coverage: float = Field(repr=False)
    """Adsorbates for each atom of the surface (dimensionless)."""
    reference: str
    """What the energy counts from."""
    distance: Angstrom = Field(repr=False)
    """Shortest distance between adsorbates and slab."""
    off: Angstrom = Field(repr=False)
    """Distance from the site, along the surface; the largest of several adsorbates."""
    moved: Angstrom = Field(repr=False)
    """Largest displacement of an atom of the slab."""


class AdsorbResult(PropertyResult):
    """Minima: of each slab and each set of adsorbates the lowest first."""

    minima: list[AdsorbRow]
    """One row for each."""
    tried: int
    """Structures that were relaxed to find them."""
    structures: Path
    """The minima, in the order of the rows, extended XYZ."""


def run(settings: AdsorbTaskSettings, reporter: Reporter) -> AdsorbResult:
    """Adsorption energies of molecules on surfaces: all sites and poses in one batch, alone and together.

    Raises:
        SettingsError: there is no slab, an adsorbate is not known, or a reference does not fit.
        GeometryError: the surface of a slab is not normal to z, or has no vacuum above it.
    """
    from rutile.build.molecules_source import molecule_called
    from rutile.potentials.combine import mean_potential
    from rutile.simulate.adsorb import adsorb
    from rutile.structures.io import write_frames
    from rutile.tasks.adsorb_page import page
    from rutile.tasks.kept_relaxations import Stages

    if not settings.structures and settings.crystals is None:
        raise SettingsError("no slabs: give files of slabs, or crystals.elements=[Cu] crystals.prototypes=[fcc]")
    members, _ = members_and_bars(settings, reporter)
    potential = mean_potential(members)
    adsorbates = {name: molecule_called(name, settings.seed) for name in settings.adsorbates}
    _require_known(adsorbates, potential)
    how = RelaxSettings(fmax=settings.fmax, max_steps=settings.max_steps)
    content = model_content(settings.model)
    with folder_for_results(settings.out), Stages(settings.out, settings, content, potential, how, reporter) as relaxed:
        slabs = _given(settings, potential, reporter) + _cut(settings, potential, relaxed, reporter)
        found = adsorb(slabs, adsorbates, part(settings, AdsorbSettings), relaxed, reporter)
        rows = _rows(found, slabs, members if len(members) > 1 else (), settings, reporter)
        result = AdsorbResult(
            minima=rows,
            tried=found.tried,
            structures=settings.out / "minima.extxyz",
        )
        images = _images(found, rows, slabs)
        write_frames(result.structures, images)
        write_frames(settings.out / "alone.extxyz", _alone(found, slabs))
        text = page(rows, images, found.tried, settings.model_dump(mode="json"))
        result = write_result(settings.out, result, rows, text)
    return result


def _require_known(adsorbates: dict[str, Atoms], potential: Potential) -> None:
    """Refuse adsorbates with elements that the model does not know."""
    from rutile.potentials.checks import check_structures
    from rutile.structures.structures import Structures

    batch = Structures.from_ase(list(adsorbates.values()))
    check_structures(batch, potential.elements, [f"adsorbate {name}" for name in adsorbates])


def _given(settings: AdsorbTaskSettings, potential: Potential, reporter: Reporter) -> list[Slab]:
    """Slabs from files."""
    from rutile.simulate.adsorb import Slab
    from rutile.tasks.apply import plain

    out = []
    for reading in readings_given(settings, potential.elements, reporter) if settings.structures else ():
        assert reading.frame is not None
        atoms, fixed = plain(reading.frame), held_atoms(settings, reading)
        if not fixed.any() and not settings.fixed and settings.fixed_below is None:
            fixed = _lower(atoms, settings.fixed_part)
        refuse_if_all_held([reading.frame], fixed)
        out.append(Slab(reading.frame.source, atoms, fixed))
    return out


def _lower(atoms: Atoms, share: float) -> np.ndarray:
    """Atoms in the lower part of a slab, [N] bool."""
    z = atoms.positions[:, 2]
    return np.asarray(z < z.min() + share * (z.max() - z.min())) if share else np.zeros(len(z), dtype=bool)


def _cut(settings: AdsorbTaskSettings, potential: Potential, relaxed: Stages, reporter: Reporter) -> list[Slab]:
    """Slabs cut from relaxed crystals, repeated along the surface."""
    from rutile.build.crystals import parents
    from rutile.build.surface import with_vacuum
    from rutile.simulate.adsorb import Slab
    from rutile.simulate.settings import SurfaceSettings
    from rutile.simulate.surfaces import conventional, cuts
    from rutile.structures.structures import Structures

    if settings.crystals is None:
        return []
    given = parents(settings.crystals, conventional=False)
    bulk = RelaxSettings(fmax=settings.fmax, smax=0.01, cell="full", max_steps=settings.max_steps)
    free = [np.zeros(len(p.atoms), dtype=bool) for p in given]
    ends = relaxed("crystals", [Structures.from_ase(p.atoms) for p in given], free, bulk)
    shape = SurfaceSettings(miller=settings.miller, thickness=settings.thickness)
    out = []
    for parent, end in zip(given, ends, strict=True):
        if end.failure:
            reporter.warn(f"{parent.name}: {end.failure}")
        for slab in cuts(conventional(end.atoms), shape):
            lengths = slab.atoms.cell.lengths()[:2]
            many = [int(np.ceil(settings.width / x - 1e-6)) for x in lengths]
            atoms = with_vacuum(slab.atoms.repeat((*many, 1)), settings.vacuum)
            atoms.pbc = True  # so that potentials with charges can be used
            out.append(Slab(f"{parent.name} {slab.name}", atoms, _lower(atoms, settings.fixed_part)))
    return out


def _rows(
    found: Adsorption,
    slabs: Sequence[Slab],
    members: Sequence[Potential],
    settings: AdsorbTaskSettings,
    reporter: Reporter,
) -> list[AdsorbRow]:
    """The table."""
    from rutile.build.sites import top_plane

    by_model = found.energies(
        [f.end.energy for f in found.found],
        [s.energy for s in found.slabs],
        {name: m.energy for name, m in found.molecules.items()},
    )
    std = _spread(found, members)
    surface = [int(top_plane(s.atoms, settings.depth).sum()) for s in found.slabs]
    rows = []
    for k, (one, energy, interaction) in enumerate(zip(found.found, *by_model, strict=True)):
        row = AdsorbRow(
            slab=slabs[one.slab].name,
            adsorbates=" + ".join(found.names[n] for n in one.what),
            outcome=_outcome(one, found),
            energy=energy,
            energy_std=None if std is None else float(std[k]),
            interaction=interaction,
            state=", ".join(dict.fromkeys(f.state for f in one.fates)),
            site=" + ".join(f.site for f in one.fates if f.site),
            starts="; ".join(one.starts),
            found=len(one.starts),
            coverage=len(one.what) / surface[one.slab],
            reference=" + ".join(found.references[n].text for n in one.what),
            distance=min(f.distance for f in one.fates),
            off=max(f.off for f in one.fates),
            moved=one.moved,
        )
        rows.append(row)
        if row.outcome != DONE:
            reporter.warn(f"{row.adsorbates} on {row.slab} from {row.starts}: {row.outcome}")
    return rows


def _outcome(one: Adsorbed, found: Adsorption) -> str:
    """done, or the first thing that went wrong: of the structure, of the slab alone, of a reference."""
    names = {name for n in one.what for _, name in found.references[n].terms}
    others = [("slab", found.slabs[one.slab])] + [(name, found.molecules[name]) for name in sorted(names)]
    why = [one.end.failure] + [f"{name} alone: {m.failure}" for name, m in others if m.failure]
    return next((w for w in why if w), DONE)


def _spread(found: Adsorption, members: Sequence[Potential]) -> np.ndarray | None:
    """Standard deviation of energies of adsorption over a committee (eV), at the structures of its mean."""
    from rutile.core.reporting import SilentReporter
    from rutile.simulate.forces import evaluate_many
    from rutile.structures.structures import concatenate

    if not members:
        return None
    every = [f.end for f in found.found] + list(found.slabs) + list(found.molecules.values())
    batch, n, m = concatenate(e.structure for e in every), len(found.found), len(found.slabs)
    theirs = []
    for member in members:
        energy = evaluate_many(batch, member, 2000, SilentReporter()).energy.tolist()
        molecules = dict(zip(found.molecules, energy[n + m :], strict=True))
        theirs.append(found.energies(energy[:n], energy[n : n + m], molecules)[0])
    return np.asarray(np.std(theirs, axis=0))


def _images(found: Adsorption, rows: Sequence[AdsorbRow], slabs: Sequence[Slab]) -> list[Atoms]:
    """The minima as they are written."""
    out = []
    for one, row in zip(found.found, rows, strict=True):
        atoms = one.end.atoms
        held = np.zeros(len(atoms), dtype=bool)
        held[: len(slabs[one.slab].fixed)] = slabs[one.slab].fixed
        atoms.arrays["move_mask"] = ~held
        kept = ("slab", "adsorbates", "outcome", "state", "site")
        atoms.info = {name: getattr(row, name) for name in kept} | {"adsorption_energy": row.energy}
        out.append(atoms)
    return out


def _alone(found: Adsorption, slabs: Sequence[Slab]) -> list[Atoms]:
    """Slabs and molecules, relaxed, with their energies."""
    ends = [(s.name, end) for s, end in zip(slabs, found.slabs, strict=True)] + list(found.molecules.items())
    out = []
    for name, end in ends:
        atoms = end.atoms
        atoms.info = {"name": name, "formula": formula(atoms.numbers.tolist()), "total_energy": end.energy}
        out.append(atoms)
    return out


TASK = Task(
    "adsorb",
    AdsorbTaskSettings,
    AdsorbResult,
    run,
    positional="structures",
    examples=(
        "rutile adsorb slabs.extxyz model=run adsorbates=CO,O,H2O",
        "rutile adsorb model=emt crystals.elements=Cu crystals.prototypes=fcc miller=[[1,1,1]] adsorbates=O",
        "rutile adsorb slab.vasp model=run adsorbates=CO,O together=[[CO,O],[O,O]] 'references={O: 0.5 O2}'",
    ),
)
