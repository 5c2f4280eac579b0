"""VASP: INCAR, KPOINTS, POSCAR, POTCAR in; vasprun.xml out."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read
from pydantic import JsonValue

from rutile.label.labeler import Label
from rutile.label.programs.question import NoAnswer, Question, full_stress
from rutile.label.run import Ended, text_of
from rutile.label.settings import ProgramSettings, VaspSettings

FUNCTIONALS = {"PBE": "PE", "PBESOL": "PS", "RPBE": "RP", "LDA": "CA"}
"""VASP's names (GGA)."""
OUT = "vasprun.xml"


class Vasp:
    """How it is asked."""

    title = "VASP"
    command = "vasp_std"
    version_words = ()
    asks_version = False
    install = "it is licensed: vasp.at"
    by_mpirun = True

    def version(self, text: str) -> str:
        """Of a line such as `vasp.6.4.2 20Jul23 (build ...)`."""
        found = re.search(r"vasp\.(\d+\.\d+\.\d+)", text)
        return found[1] if found else ""

    def pseudopotentials(self, settings: ProgramSettings, symbols: list[str]) -> dict[str, Path]:
        """POTCAR of each element."""
        assert isinstance(settings, VaspSettings)
        if settings.pseudo_dir is None:
            raise NoAnswer("missing pseudopotential", "say where the POTCAR files are: engine.pseudo_dir=...")
        out = {}
        for symbol in symbols:
            path = settings.pseudo_dir.expanduser() / settings.pseudopotentials.get(symbol, symbol) / "POTCAR"
            if not path.is_file():
                raise NoAnswer("missing pseudopotential", f"{path} is not there; see engine.pseudopotentials")
            out[symbol] = path
        return out

    def inputs(self, question: Question) -> dict[str, str | bytes]:
        """The four files; atoms in the order of the elements."""
        files = self.pseudopotentials(question.settings, question.symbols)
        points = " ".join(map(str, question.kpoints))
        return {
            "INCAR": "".join(f"{k} = {_word(v)}\n" for k, v in _incar(question).items()),
            "KPOINTS": f"Gamma-centred\n0\nGamma\n{points}\n0 0 0\n",
            "POSCAR": _poscar(question),
            "POTCAR": b"".join(files[s].read_bytes() for s in question.symbols),
        }

    def read(self, question: Question, folder: Path, ended: Ended) -> Label:
        """Free energy, forces, stress, in the order of the question."""
        text = text_of(folder / OUT)
        if "</modeling>" not in text:
            raise NoAnswer("crashed", f"{OUT} is not complete")
        steps, most = _steps(text)
        if steps >= most:
            raise NoAnswer("not converged", f"VASP took all of its NELM = {most} steps")
        atoms = read(folder / OUT, format="vasp-xml")
        assert isinstance(atoms, Atoms)
        place = np.argsort(_order(question))
        stress = full_stress(atoms.get_stress()) if "stress" in atoms.calc.results else None
        return Label(float(atoms.get_potential_energy(force_consistent=True)), atoms.get_forces()[place], stress)


def _incar(question: Question) -> Mapping[str, JsonValue]:
    """Lines of INCAR."""
    settings = question.settings
    assert isinstance(settings, VaspSettings)
    functional = settings.functional
    lines: dict[str, JsonValue] = {"SYSTEM": "rutile", "ENCUT": question.number("cutoff"), "PREC": "Accurate"}
    if functional.upper() in FUNCTIONALS:
        lines["GGA"] = FUNCTIONALS[functional.upper()]
    else:
        lines["METAGGA"] = functional
    lines |= {"EDIFF": 1e-7, "NELM": 300 if question.safer else 120, "ALGO": "All" if question.safer else "Normal"}
    lines |= {"ISMEAR": -1, "SIGMA": settings.smearing} if settings.smearing > 0 else {"ISMEAR": 0, "SIGMA": 0.01}
    lines |= {"NSW": 0, "IBRION": -1, "ISIF": 2, "LREAL": False, "LASPH": True, "LWAVE": False, "LCHARG": False}
    if settings.spin:
        moments = question.atoms.get_initial_magnetic_moments()[_order(question)]
        lines |= {"ISPIN": 2, "MAGMOM": " ".join(f"{m:g}" for m in moments)}
    return lines | settings.incar


def _word(value: JsonValue) -> str:
    """A value as INCAR has it."""
    if isinstance(value, bool):
        return ".TRUE." if value else ".FALSE."
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _order(question: Question) -> np.ndarray:
    """Atoms sorted by element."""
    symbols = question.atoms.get_chemical_symbols()
    return np.array(sorted(range(len(symbols)), key=lambda k: (symbols[k], k)))


def _poscar(question: Question) -> str:
    """Cell and positions with all digits."""
    symbols = question.atoms.get_chemical_symbols()
    lines = ["rutile", "1.0", *(" ".join(map(repr, v)) for v in question.atoms.cell.array.tolist())]
    lines += [" ".join(question.symbols), " ".join(str(symbols.count(s)) for s in question.symbols), "Cartesian"]
    lines += [" ".join(map(repr, v)) for v in question.atoms.positions[_order(question)].tolist()]
    return "\n".join([*lines, ""])


def _steps(text: str) -> tuple[int, int]:
    """Electronic steps taken at the end, and NELM."""
    root = ET.fromstring(text)
    last = root.findall("calculation")[-1]
    most = next(x for x in root.iter("i") if x.get("name") == "NELM")
    return len(last.findall("scstep")), int(most.text or 0)
