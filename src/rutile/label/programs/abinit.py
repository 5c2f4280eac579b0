"""ABINIT."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from rutile.core.units import BOHR, HARTREE
from rutile.label.labeler import Label
from rutile.label.programs.question import NoAnswer, Question, chosen, full_stress
from rutile.label.run import Ended, text_of
from rutile.label.settings import AbinitSettings, ProgramSettings

INPUT, OUT = "rutile.abi", "rutile.abo"
NUMBER = r"-?\d+\.\d+E[+-]\d+"
IXC = {"LDA": "1", "PBE": "11"}
"""ABINIT's numbers of functionals."""


class Abinit:
    """How it is asked."""

    title = "ABINIT"
    command = f"abinit {INPUT}"
    version_words = ("--version",)
    asks_version = True
    install = "apt install abinit abinit-data"
    by_mpirun = True

    def version(self, text: str) -> str:
        """Of a line such as `.Version 9.6.2 of ABINIT`, or the answer to --version."""
        found = re.search(r"Version\s+(\d+\.\d+\S*)\s+of ABINIT", text) or re.match(r"\s*(\d+\.\d+\.\S+)\s*$", text)
        return found[1] if found else ""

    def pseudopotentials(self, settings: ProgramSettings, symbols: list[str]) -> dict[str, Path]:
        """File of each element."""
        assert isinstance(settings, AbinitSettings)
        folder = settings.pseudo_dir.expanduser()

        def find(symbol: str) -> Iterator[Path]:
            number = f"{atomic_numbers[symbol]:02d}"
            patterns = [f"{symbol}.psp8", f"{symbol}.xml", f"{symbol}.*.xml"]
            if settings.functional.upper() == "LDA":
                patterns.insert(0, f"{number}{symbol.lower()}.[0-9]*.hgh")
            return (path for pattern in patterns for path in sorted(folder.glob(pattern)))

        return chosen(folder, settings.pseudopotentials, symbols, find, settings.functional)

    def inputs(self, question: Question) -> dict[str, str | bytes]:
        """The input file."""
        settings, atoms, names = question.settings, question.atoms, question.symbols
        assert isinstance(settings, AbinitSettings)
        files = self.pseudopotentials(settings, names)
        cutoff, safer = question.number("cutoff") / HARTREE, question.safer
        lines = [
            f"ecut {cutoff:.10f}", "toldfe 1.0d-10", f"nstep {300 if safer else 80}",
            f"ixc {IXC.get(settings.functional.upper(), settings.functional)}",
            "ngkpt " + " ".join(map(str, question.kpoints)), "nshiftk 1", "shiftk 0 0 0", "kptopt 1",
            "ecutsm 0.5", "chksymbreak 0", "chkprim 0", "chksymtnons 0", "optforces 1", "optstress 1",
            "prtwf 0", "prtden 0", "prteig 0", "prtgsr 0", "prtebands 0",
            f"natom {len(atoms)}", f"ntypat {len(names)}",
            "znucl " + " ".join(str(atomic_numbers[s]) for s in names),
            "typat " + " ".join(str(names.index(s) + 1) for s in atoms.get_chemical_symbols()),
            "acell 1 1 1", "rprim", *_rows(atoms.cell.array), "xcart", *_rows(atoms.positions),
            'pseudos "' + ", ".join(files[s].name for s in names) + '"',
        ]  # fmt: skip
        if any(path.suffix == ".xml" for path in files.values()):
            lines += [f"pawecutdg {2.5 * cutoff:.10f}", "pawxcdev 1", "pawovlp 10"]
        if settings.smearing > 0:
            electrons = sum(_valence(files[s]) for s in atoms.get_chemical_symbols())
            lines += ["occopt 3", f"tsmear {settings.smearing / HARTREE:.10f}", f"nband {ceil(0.6 * electrons) + 4}"]
        if settings.spin:
            moments = atoms.get_initial_magnetic_moments()
            lines += ["nsppol 2", "spinat", *(f"0 0 {m:.4f}" for m in moments)]
        if safer:
            lines += ["diemix 0.3", "nline 8"]
        text = "\n".join(lines) + "\n"
        return {INPUT: text} | {path.name: path.read_bytes() for path in files.values()}

    def read(self, question: Question, folder: Path, ended: Ended) -> Label:
        """Energy (with smearing the free energy), forces, stress."""
        text = text_of(folder / OUT)
        if re.search(r"not enough SCF cycles to converge|is not converged", text + ended.output):
            raise NoAnswer("not converged", "ABINIT says: not enough SCF cycles to converge")
        energies = re.findall(rf"\betotal\d*\s+({NUMBER})", text)
        if "Calculation completed" not in text or not energies or " fcart" not in text:
            raise NoAnswer("crashed", "ABINIT's output is not complete" + _complaint(ended.text))
        n = len(question.atoms)
        forces = np.array(_numbers(text, " fcart", 3 * n)).reshape(n, 3) * HARTREE / BOHR
        stress = full_stress(np.array(_numbers(text, "strten", 6)) * HARTREE / BOHR**3)
        return Label(float(energies[-1]) * HARTREE, forces, stress)


def _valence(path: Path) -> float:
    """Electrons that a pseudopotential leaves: of its XML, or of its second line (`zatom, zion, pspdat`)."""
    with path.open("rb") as file:
        text = file.read(20_000).decode(errors="replace")
    found = re.search(r'valence\s*=\s*"([\d.]+)"', text)
    try:
        return float(found[1] if found else text.splitlines()[1].split()[1])
    except (IndexError, ValueError):
        raise NoAnswer("missing pseudopotential", f"{path} is no pseudopotential of ABINIT") from None


def _rows(vectors: np.ndarray) -> list[str]:
    """In Bohr."""
    return [" ".join(f"{x / BOHR:.14f}" for x in v) for v in vectors]


def _numbers(text: str, name: str, count: int) -> list[float]:
    """The numbers behind the last time that a name occurs."""
    found = re.findall(NUMBER, text[text.rindex(name) :])[:count]
    if len(found) != count:
        raise NoAnswer("garbage", f"ABINIT's output has {len(found)} of {count} numbers of {name.strip()}")
    return [float(x) for x in found]


def _complaint(text: str) -> str:
    """What ABINIT complains about."""
    found = re.search(r"--- !(?:ERROR|BUG).*?message:\s*\|?\s*(.*?)(?:\n\s*\n|\.\.\.|src_file)", text, re.DOTALL)
    return f": {' '.join(found[1].split())[:200]}" if found else ""
