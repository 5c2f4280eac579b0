"""Computes structures with a Python engine, one after another, until its input closes. Run as a script.

    python serve.py SETTINGS.json

For each line {"structure": in.extxyz, "result": out.extxyz, "safer": false, "seconds": 60, ...} on standard input it
writes the result as extended XYZ and one line on standard output: {"provenance": {...}}, or {"kind": ..., "reason":
...} for a failure. What engines print goes to standard error. Needs ASE and the engine; not rutile, except for
rutile's own potentials.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import math
import os
import queue
import shutil
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms

LATE = 60
"""Seconds after the time limit at which the system ends a calculation whose parent did not (it was killed)."""
HARTREE, BOHR = 27.211386245988, 0.529177210903
WORDS = (
    ("not installed", ("no module named", "cannot import name")),
    ("missing pseudopotential", ("could not find required paw", "setupnotfound", "pseudopotential", "basis not found")),
    ("not converged", ("not converge", "convergence", "scf cycle", "scf not")),
)
"""What kinds of failures are recognised by, in lower case."""


class Unsuitable(Exception):
    """The engine is not made for such a structure."""


class NotConverged(Exception):
    """No self-consistency."""


class Emt:
    """Effective medium theory."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import ase

        self.version = f"ASE EMT {ase.__version__}"

    def compute(self, atoms: Atoms, job: dict[str, Any]) -> dict[str, Any]:
        """Energy, forces, stress."""
        from ase.calculators.emt import EMT

        return by_calculator(atoms, EMT())


class LennardJones:
    """Pairs of one kind."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import ase

        self.version = f"ASE Lennard-Jones {ase.__version__}"
        self.arguments = {k: settings[k] for k in ("sigma", "epsilon")}
        self.cutoff = settings["cutoff"]

    def compute(self, atoms: Atoms, job: dict[str, Any]) -> dict[str, Any]:
        """Energy, forces, stress."""
        from ase.calculators.lj import LennardJones as Calculator

        return by_calculator(atoms, Calculator(**self.arguments, rc=self.cutoff, ro=self.cutoff * 2 / 3, smooth=True))


class Gpaw:
    """Plane waves and PAW."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import gpaw

        self.settings = settings
        self.version = f"GPAW {gpaw.__version__}"

    def compute(self, atoms: Atoms, job: dict[str, Any]) -> dict[str, Any]:
        """Energy, forces, stress; the structure is periodic in all directions."""
        from gpaw import GPAW, PW, FermiDirac

        s = self.settings
        arguments: dict[str, Any] = {
            "mode": PW(s["cutoff"]),
            "xc": s["functional"],
            "kpts": {"size": tuple(job["kpoints"]), "gamma": True},
            "occupations": FermiDirac(s["smearing"]),
            "convergence": {"density": s["density_tolerance"]},
            "txt": "-",
        }
        if s["spin"]:
            if not atoms.get_initial_magnetic_moments().any():
                atoms.set_initial_magnetic_moments([1.0] * len(atoms))
            arguments["spinpol"] = True
        if job["safer"]:
            arguments |= {"mixer": {"beta": 0.02, "nmaxold": 5, "weight": 100.0}, "maxiter": 1000}
        calculator = GPAW(**arguments)
        out = by_calculator(atoms, calculator)
        prints = sorted({f"{x.symbol} {x.fingerprint}" for x in calculator.setups})
        out["provenance"]["pseudopotentials"] = hashlib.sha256("\n".join(prints).encode()).hexdigest()[:16]
        return out


class Xtb:
    """GFN-xTB of molecules."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import tblite
        from tblite.interface import Calculator

        self.settings, self.calculator = settings, Calculator
        self.version = f"tblite {getattr(tblite, '__version__', '') or version_of('tblite')}"

    def compute(self, atoms: Atoms, job: dict[str, Any]) -> dict[str, Any]:
        """Energy and forces."""
        calculator = self.calculator(
            self.settings["method"],
            atoms.numbers,
            atoms.positions / BOHR,
            charge=job["charge"],
            uhf=job["multiplicity"] - 1,
        )
        calculator.set("verbosity", 0)
        calculator.set("accuracy", self.settings["accuracy"])
        calculator.set("max-iter", 1000 if job["safer"] else 250)
        if job["safer"]:
            calculator.set("mixer-damping", 0.1)
        found = calculator.singlepoint()
        return result(found.get("energy") * HARTREE, -found.get("gradient") * HARTREE / BOHR)


class Pyscf:
    """Density functional theory of molecules."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import pyscf

        self.settings = settings
        self.version = f"PySCF {pyscf.__version__}"

    def compute(self, atoms: Atoms, job: dict[str, Any]) -> dict[str, Any]:
        """Energy and forces."""
        from pyscf import dft, gto

        molecule = gto.M(
            atom=list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist())),  # noqa: B905
            basis=self.settings["basis"],
            charge=job["charge"],
            spin=job["multiplicity"] - 1,
            verbose=0,
        )
        field = (dft.RKS if job["multiplicity"] == 1 else dft.UKS)(molecule, xc=self.settings["functional"])
        if self.settings["density_fit"]:
            field = field.density_fit()
        field.grids.level = self.settings["grid"]
        field.conv_tol = 1e-9
        if job["safer"]:
            field.max_cycle, field.level_shift, field.damp = 300, 0.2, 0.3
        energy = field.kernel()
        if not field.converged:
            raise NotConverged(f"SCF not converged in {field.max_cycle} cycles")
        gradient = field.nuc_grad_method()
        gradient.grid_response = True
        return result(energy * HARTREE, -gradient.kernel() * HARTREE / BOHR)


class RigidIon:
    """rutile's TiO2 of rigid ions."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import rutile
        from rutile.potentials.rigid_ion import RigidIon as Potential
        from rutile.potentials.rigid_ion import too_close

        self.potential, self.barriers = Potential(settings["cutoff"]), too_close()
        self.version = f"rutile rigid_ion {rutile.__version__}"

    def compute(self, atoms: Atoms, job: dict[str, Any]) -> dict[str, Any]:
        """Energy, forces, stress."""
        from ase.neighborlist import neighbor_list

        from rutile.core.errors import RutileError
        from rutile.potentials.evaluate import evaluate
        from rutile.structures.structures import Structures

        try:
            structure = Structures.from_arrays(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
            found = evaluate(self.potential, structure)
        except RutileError as error:
            raise Unsuitable(str(error)) from None
        for i, j, r in zip(*neighbor_list("ijd", atoms, max(self.barriers.values())), strict=True):
            a, b = sorted((int(atoms.numbers[i]), int(atoms.numbers[j])))
            if r < self.barriers.get((a, b), self.barriers.get((b, a), 0.0)):
                raise Unsuitable(f"atoms {i} and {j} are {r:.3f} Angstrom apart: rigid ions fall together there")
        stress = found.stress[0].numpy() if atoms.pbc.all() else None
        return result(float(found.energy[0]), found.forces.numpy(), stress)


class Teacher:
    """A trained potential of rutile."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from rutile.potentials.save import load_model

        model = load_model(Path(settings["model"]))
        self.calculator = model.calculator(mode=settings["mode"], device=settings["device"])
        self.version = f"rutile potential {hash_of(Path(settings['model']))}"

    def compute(self, atoms: Atoms, job: dict[str, Any]) -> dict[str, Any]:
        """Energy, forces, stress."""
        from rutile.core.errors import GeometryError

        try:
            return by_calculator(atoms, self.calculator)
        except GeometryError as error:
            raise Unsuitable(str(error)) from None


class AnyCalculator:
    """An ASE calculator by the name of its class."""

    def __init__(self, settings: dict[str, Any]) -> None:
        where, _, name = settings["calculator"].rpartition(":")
        if where.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(where).stem, where)
            if spec is None or spec.loader is None:
                raise ImportError(f"no module named {where}")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
        self.made, self.settings = getattr(module, name), settings
        package = where.split(".")[0]
        self.version = f"{name} {settings['version'] or ('' if where.endswith('.py') else version_of(package))}".strip()

    def compute(self, atoms: Atoms, job: dict[str, Any]) -> dict[str, Any]:
        """Energy, forces, stress."""
        arguments = self.settings["arguments"] | (self.settings["safer"] if job["safer"] else {})
        return by_calculator(atoms, self.made(**arguments))


ENGINES: dict[str, type[Any]] = {
    "emt": Emt,
    "lennard_jones": LennardJones,
    "gpaw": Gpaw,
    "xtb": Xtb,
    "pyscf": Pyscf,
    "rigid_ion": RigidIon,
    "potential": Teacher,
    "ase": AnyCalculator,
}


def by_calculator(atoms: Atoms, calculator: Any) -> dict[str, Any]:
    """What an ASE calculator says: the energy that the forces are derivatives of, forces, and stress of crystals."""
    from ase.calculators.calculator import PropertyNotImplementedError

    atoms.calc = calculator
    try:
        energy = atoms.get_potential_energy(force_consistent=True)
    except PropertyNotImplementedError:
        energy = atoms.get_potential_energy()
    forces, stress = atoms.get_forces(apply_constraint=False), None
    if atoms.pbc.all():
        try:
            stress = atoms.get_stress(voigt=False)
        except NotImplementedError:
            stress = None
    return result(float(energy), forces, stress)


def result(energy: float, forces: Any, stress: Any = None) -> dict[str, Any]:
    """Results under their names."""
    return {"energy": energy, "forces": forces, "stress": stress, "provenance": {}}


def version_of(package: str) -> str:
    """Version of an installed package; "" where it says none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def hash_of(path: Path) -> str:
    """Content of a file, or of the model in a folder of a training run."""
    file = path / "model.rutile" if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def written(path: Path, atoms: Atoms, found: dict[str, Any]) -> None:
    """Write a result as extended XYZ, with all digits."""
    words = ["Properties=species:S:1:pos:R:3:forces:R:3", f"energy={float(found['energy'])!r}"]
    words.append('pbc="{} {} {}"'.format(*("T" if p else "F" for p in atoms.pbc)))
    if atoms.cell.rank:
        words.append('Lattice="{}"'.format(" ".join(map(repr, atoms.cell.array.ravel().tolist()))))
    if found["stress"] is not None:
        words.append('stress="{}"'.format(" ".join(repr(float(x)) for row in found["stress"] for x in row)))
    lines = [str(len(atoms)), " ".join(words)]
    for name, place, force in zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), found["forces"]):  # noqa: B905
        lines.append(" ".join([name, *map(repr, place), *(repr(float(f)) for f in force)]))
    path.write_text("\n".join([*lines, ""]))


def classify(error: BaseException) -> dict[str, str]:
    """Kind and reason of an exception."""
    text = f"{type(error).__name__}: {error}".replace("\n", " ")[:500]
    if isinstance(error, Unsuitable):
        return {"kind": "unsuitable", "reason": str(error)}
    if isinstance(error, NotImplementedError):
        return {"kind": "unsuitable", "reason": text}
    if isinstance(error, NotConverged):
        return {"kind": "not converged", "reason": str(error)}
    if isinstance(error, MemoryError):
        return {"kind": "crashed", "reason": "out of memory"}
    for kind, words in WORDS:
        if any(word in text.lower() for word in words):
            return {"kind": kind, "reason": text}
    return {"kind": "crashed", "reason": text}


def compute(engine: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Do one line's work; the answer."""
    from ase.io import read

    try:
        atoms: Any = read(job["structure"], format="extxyz")
        found = engine.compute(atoms, job)
        written(Path(job["result"]), atoms, found)
    except Exception as error:
        traceback.print_exc()
        return classify(error)
    return {"provenance": found["provenance"]}


def listen(lines: queue.Queue[str], folder: Path) -> None:
    """Pass lines on; when no more come, end the process, even in a calculation, with its programs and folder."""
    for line in sys.stdin:
        lines.put(line)
    shutil.rmtree(folder, ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def main() -> None:
    """Answer with the version first, then line by line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what engines print is no answer
    settings = json.loads(Path(sys.argv[1]).read_text())

    def say(answer: dict[str, Any]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        importlib.import_module("ase.io.extxyz")  # before time is measured
        engine = ENGINES[settings["name"]](settings)
    except Exception as error:
        traceback.print_exc()
        say(classify(error))
        return
    say({"version": engine.version})
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=listen, args=(lines, Path(sys.argv[1]).parent), daemon=True).start()
    while True:
        job = json.loads(lines.get())
        signal.alarm(math.ceil(min(job["seconds"], 1e8)) + LATE)
        answer = compute(engine, job)
        signal.alarm(0)
        say(answer)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder
    main()
