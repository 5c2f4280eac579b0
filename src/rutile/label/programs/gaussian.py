"""Gaussian: rutile.gjf in, rutile.log out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from rutile.core.units import BOHR, HARTREE
from rutile.label.labeler import Label
from rutile.label.programs.question import NoAnswer, Program, Question
from rutile.label.run import Ended, text_of
from rutile.label.settings import GaussianSettings

INPUT, OUT = "rutile.gjf", "rutile.log"
NUMBER = r"(-?\d+\.\d+)"


class Gaussian(Program):
    """How it is asked."""

    title = "Gaussian"
    command = f"g16 {INPUT}"
    version_words = ()
    asks_version = False
    install = "it is licensed: gaussian.com"
    by_mpirun = False

    def version(self, text: str) -> str:
        """Of a line such as `Gaussian 16:  ES64L-G16RevC.01  3-Jul-2019`."""
        found = re.search(r"Gaussian \d+:\s+\S*?(G\d+Rev\S+)", text)
        return found[1] if found else ""

    def inputs(self, question: Question) -> dict[str, str | bytes]:
        """The input file."""
        settings, safer = question.settings, question.safer
        assert isinstance(settings, GaussianSettings)
        scf = "SCF=(Tight,XQC,MaxCycle=512)" if safer else "SCF=(Tight,MaxCycle=128)"
        route = f"#P {settings.functional}/{question.text('basis')} Force NoSymm {scf} {settings.keywords}"
        lines = [f"%NProcShared={settings.threads * settings.processes}", route.strip(), "", "rutile", ""]
        lines.append(f"{question.charge} {question.multiplicity}")
        for name, place in zip(question.atoms.symbols, question.atoms.positions.tolist(), strict=True):
            lines.append(" ".join([name, *(f"{x:.10f}" for x in place)]))
        return {INPUT: "\n".join([*lines, "", ""])}

    def read(self, question: Question, folder: Path, ended: Ended) -> Label:
        """Energy and forces."""
        text = text_of(folder / OUT) or ended.output
        if re.search(r"Convergence failure|Convergence criterion not met", text):
            raise NoAnswer("not converged", "Gaussian says: Convergence failure")
        if "Normal termination of Gaussian" not in text:
            raise NoAnswer("crashed", "Gaussian did not finish")
        energies = re.findall(rf"SCF Done:\s+E\(.*?\)\s*=\s*{NUMBER}", text)
        block = text.rsplit("Forces (Hartrees/Bohr)", 1)[-1]
        n = len(question.atoms)
        rows = re.findall(r"^\s*\d+\s+\d+" + 3 * rf"\s+{NUMBER}" + r"\s*$", block, re.MULTILINE)[:n]
        if not energies or len(rows) != n:
            raise NoAnswer("garbage", "Gaussian's output has no energy and forces of all atoms")
        return Label(float(energies[-1]) * HARTREE, np.array(rows, dtype=np.float64) * HARTREE / BOHR, None)
