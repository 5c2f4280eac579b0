"""CP2K with Gaussians and plane waves (Quickstep)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from rutile.core.units import BOHR, GPA, HARTREE
from rutile.label.labeler import Label
from rutile.label.programs.question import NoAnswer, Program, Question
from rutile.label.run import Ended
from rutile.label.settings import Cp2kSettings

INPUT = "rutile.inp"
KELVIN = 8.617333262e-5
"""eV for each kelvin."""
STRESS_UNITS = {"GPa": GPA, "bar": GPA * 1e-4, "kbar": GPA * 0.1}
"""In eV/Angstrom^3."""
XC = {"LDA": "PADE"}
"""Names of functionals that CP2K calls otherwise; GTH pseudopotentials are named alike."""


class Cp2k(Program):
    """How it is asked."""

    title = "CP2K"
    command = f"cp2k -i {INPUT}"
    version_words = ("--version",)
    asks_version = True
    install = "apt install cp2k"
    by_mpirun = True

    def version(self, text: str) -> str:
        """Of a line such as `CP2K version 2023.1`."""
        found = re.search(r"CP2K(?:\|)?\s+(?:version string:\s+CP2K )?version\s+(\S+)", text)
        return found[1] if found else ""

    def inputs(self, question: Question) -> dict[str, str | bytes]:
        """The input file."""
        settings = question.settings
        assert isinstance(settings, Cp2kSettings)
        functional = XC.get(settings.functional.upper(), settings.functional)
        pseudo = settings.pseudopotential.format(functional=functional)
        atoms = question.atoms
        lines = [
            "&GLOBAL", "PROJECT rutile", "RUN_TYPE ENERGY_FORCE", "PRINT_LEVEL MEDIUM", "&END GLOBAL",
            "&FORCE_EVAL", "METHOD Quickstep", f"STRESS_TENSOR {'ANALYTICAL' if question.crystal else 'NONE'}",
            "&DFT", "BASIS_SET_FILE_NAME BASIS_MOLOPT", "POTENTIAL_FILE_NAME GTH_POTENTIALS",
            *_spin(question),
            "&MGRID", f"CUTOFF [eV] {question.number('cutoff'):.6f}", "REL_CUTOFF 60", "NGRIDS 4", "&END MGRID",
            "&QS", "EPS_DEFAULT 1.0E-10", "&END QS",
            "&XC", f"&XC_FUNCTIONAL {functional}", "&END XC_FUNCTIONAL", "&END XC",
            *_kpoints(question), *_poisson(question), *_scf(question, settings),
            "&END DFT",
            "&PRINT", "&FORCES ON", "&END FORCES", "&STRESS_TENSOR ON", "&END STRESS_TENSOR", "&END PRINT",
            "&SUBSYS", "&CELL",
            *(f"{n} {v[0]:.12f} {v[1]:.12f} {v[2]:.12f}" for n, v in zip("ABC", atoms.cell.array, strict=True)),
            f"PERIODIC {'NONE' if question.molecule else 'XYZ'}", "&END CELL",
            "&COORD",
            *(f"{s} {p[0]:.12f} {p[1]:.12f} {p[2]:.12f}" for s, p in zip(atoms.symbols, atoms.positions, strict=True)),
            "&END COORD",
        ]  # fmt: skip
        for name in question.symbols:
            lines += [f"&KIND {name}", f"BASIS_SET {question.text('basis')}", f"POTENTIAL {pseudo}", "&END KIND"]
        return {INPUT: "\n".join([*lines, "&END SUBSYS", "&END FORCE_EVAL", ""])}

    def read(self, question: Question, folder: Path, ended: Ended) -> Label:
        """Energy (with smearing the free energy), forces, stress."""
        text = ended.output
        if "SCF run NOT converged" in text:
            raise NoAnswer("not converged", "CP2K says: SCF run NOT converged")
        missing = re.search(r"The requested (?:basis set|atomic potential).*", ended.text)
        if missing or "was not found in the" in ended.text or "not found in the potential files" in ended.text:
            raise NoAnswer("missing pseudopotential", " ".join((missing[0] if missing else "no basis").split()))
        energy = re.findall(r"ENERGY\| Total FORCE_EVAL.*?:\s+(-?\d+\.\d+)", text)
        block = text.rsplit("ATOMIC FORCES in", 1)[-1]
        rows = re.findall(r"^\s*\d+\s+\d+\s+\w+" + 3 * r"\s+(-?\d+\.\d+)" + r"\s*$", block, re.MULTILINE)
        if not energy or len(rows) != len(question.atoms):
            raise NoAnswer("garbage", "CP2K's output has no energy and forces of all atoms")
        forces = np.array(rows, dtype=np.float64) * HARTREE / BOHR
        return Label(float(energy[-1]) * HARTREE, forces, _stress(text) if question.crystal else None)


def _stress(text: str) -> np.ndarray | None:
    """The stress tensor, positive under tension; CP2K's is positive under compression."""
    head = list(re.finditer(r"STRESS\|\s+Analytical stress tensor \[(\w+)\]", text))
    rows = r"STRESS\|\s+[xyz]" + 3 * r"\s+(-?\d[\d.E+-]*)" + r"\s*$"
    found = re.findall(rows, text[head[-1].end() :], re.MULTILINE)[:3] if head else []  # eigenvectors follow
    return -np.array(found, dtype=np.float64) * STRESS_UNITS[head[-1][1]] if len(found) == 3 else None


def _spin(question: Question) -> list[str]:
    """Total charge 0; spin polarised with the sum of the moments."""
    settings = question.settings
    assert isinstance(settings, Cp2kSettings)
    if not settings.spin:
        return []
    moment = round(float(np.abs(question.atoms.get_initial_magnetic_moments().sum())))
    return ["UKS T", f"MULTIPLICITY {moment + 1}"]


def _kpoints(question: Question) -> list[str]:
    """A Gamma-centred grid; Gamma alone needs none."""
    if question.kpoints == (1, 1, 1):
        return []
    grid = " ".join(map(str, question.kpoints))
    shift = " ".join("0.0" if n % 2 else f"{0.5 / n:.12f}" for n in question.kpoints)
    return ["&KPOINTS", f"SCHEME MACDONALD {grid} {shift}", "SYMMETRY F", "EPS_GEO 1e-8", "&END KPOINTS"]


def _poisson(question: Question) -> list[str]:
    """Of a molecule by the method of Martyna and Tuckerman."""
    if question.molecule:
        return ["&POISSON", "PERIODIC NONE", "POISSON_SOLVER MT", "&END POISSON"]
    return ["&POISSON", "PERIODIC XYZ", "POISSON_SOLVER PERIODIC", "&END POISSON"]


def _scf(question: Question, settings: Cp2kSettings) -> list[str]:
    """Self-consistency by diagonalisation and Broyden's mixing."""
    safer = question.safer
    lines = [
        "&SCF", "SCF_GUESS ATOMIC", "EPS_SCF 1.0E-8", f"MAX_SCF {500 if safer else 150}",
        "&DIAGONALIZATION", "ALGORITHM STANDARD", "&END DIAGONALIZATION",
        "&MIXING", "METHOD BROYDEN_MIXING", f"ALPHA {0.1 if safer else 0.3}", f"NBROYDEN {16 if safer else 8}",
        "&END MIXING",
    ]  # fmt: skip
    if settings.smearing > 0 and not question.molecule:
        extra = max(10, len(question.atoms) * 2)
        lines += [
            "&SMEAR ON", "METHOD FERMI_DIRAC", f"ELECTRONIC_TEMPERATURE [K] {settings.smearing / KELVIN:.4f}",
            "&END SMEAR", f"ADDED_MOS {extra}",
        ]  # fmt: skip
    return [*lines, "&END SCF"]
