"""Quantum ESPRESSO: pw.x."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write

from rutile.core.units import HARTREE
from rutile.label.labeler import Label
from rutile.label.programs.question import NoAnswer, Question, chosen, full_stress
from rutile.label.run import OUTPUT, Ended
from rutile.label.settings import EspressoSettings, ProgramSettings

RYDBERG = HARTREE / 2
FUNCTIONALS = {
    "PBE": r"\bPBE\b|\bPBX\s+PBC\b",
    "PBESOL": r"\bPBESOL\b|\bPSX\s+PSC\b",
    "LDA": r"\bPZ\b|\bLDA\b",
    "BLYP": r"\bBLYP\b|\bB88\s+BLYP\b",
}
"""What a header says about each functional."""
INPUT = "rutile.in"


class Espresso:
    """How it is asked."""

    title = "Quantum ESPRESSO"
    command = f"pw.x -in {INPUT}"
    version_words = ()
    asks_version = True
    install = "apt install quantum-espresso quantum-espresso-data"
    by_mpirun = True

    def version(self, text: str) -> str:
        """Of a line such as `Program PWSCF v.6.7MaX starts on ...`."""
        found = re.search(r"Program PWSCF v\.?\s*(\S+)", text)
        return found[1] if found else ""

    def pseudopotentials(self, settings: ProgramSettings, symbols: list[str]) -> dict[str, Path]:
        """UPF file of each element."""
        assert isinstance(settings, EspressoSettings)
        folder = settings.pseudo_dir.expanduser()

        def find(symbol: str) -> Iterator[Path]:
            return (p for p in sorted(folder.glob("*")) if _fits(p, symbol, settings.functional))

        return chosen(folder, settings.pseudopotentials, symbols, find, settings.functional)

    def inputs(self, question: Question) -> dict[str, str | bytes]:
        """The input file."""
        files = self.pseudopotentials(question.settings, question.symbols)
        settings = question.settings
        assert isinstance(settings, EspressoSettings)
        system: dict[str, Any] = {
            "ecutwfc": question.number("cutoff") / RYDBERG,
            "ecutrho": question.number("density_cutoff") / RYDBERG,
        }
        if settings.smearing > 0:
            width = settings.smearing / RYDBERG
            system |= {"occupations": "smearing", "smearing": "fermi-dirac", "degauss": width}
        if settings.spin:
            system["nspin"] = 2
        electrons: dict[str, Any] = {"conv_thr": 1e-10, "electron_maxstep": 100, "mixing_beta": 0.6}
        if question.safer:
            electrons |= {"electron_maxstep": 300, "mixing_beta": 0.15, "mixing_ndim": 12, "diagonalization": "cg"}
        control = {
            "calculation": "scf", "prefix": "rutile", "outdir": "scratch", "tprnfor": True, "tstress": True,
            "disk_io": "none", "pseudo_dir": ".",
        }  # fmt: skip
        text = StringIO()
        write(
            text, question.atoms, format="espresso-in", kpts=question.kpoints, koffset=(0, 0, 0),
            input_data={"control": control, "system": system, "electrons": electrons},
            pseudopotentials={name: path.name for name, path in files.items()},
        )  # fmt: skip
        return {INPUT: text.getvalue()} | {path.name: path.read_bytes() for path in files.values()}

    def read(self, question: Question, folder: Path, ended: Ended) -> Label:
        """Energy (with smearing the free energy, as pw.x prints it after `!`), forces, stress."""
        if re.search(r"convergence NOT achieved", ended.output):
            raise NoAnswer("not converged", "pw.x says: convergence NOT achieved")
        if "JOB DONE" not in ended.output or "!" not in ended.output:
            found = re.search(r"Error in routine\s+(.*)", ended.text)
            raise NoAnswer("crashed", f"pw.x did not finish{': ' + found[1].strip() if found else ''}")
        atoms = read(folder / OUTPUT, format="espresso-out")
        assert isinstance(atoms, Atoms)
        results = atoms.calc.results
        stress = full_stress(results["stress"]) if "stress" in results else None
        return Label(float(results["energy"]), np.array(results["forces"]), stress)


def _fits(path: Path, symbol: str, functional: str) -> bool:
    """Whether a file is a pseudopotential of an element for a functional, without spin-orbit coupling."""
    if not re.match(rf"{symbol}([._-]|$)", path.name, re.IGNORECASE) or ".rel-" in path.name:
        return False
    if path.suffix.lower() != ".upf":
        return False
    with path.open("rb") as file:
        text = file.read(200_000).decode(errors="replace")
    start = text.find("<PP_HEADER")
    header = text[start : start + 3000].upper() if start >= 0 else ""
    named = re.search(r'FUNCTIONAL\s*=\s*"([^"]*)"', header) or re.search(r"\n(.*)EXCHANGE-CORRELATION", header)
    wanted = FUNCTIONALS.get(functional.upper(), rf"\b{re.escape(functional.upper())}\b")
    return named is not None and re.search(wanted, named[1]) is not None
