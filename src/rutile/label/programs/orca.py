"""ORCA: rutile.inp in, rutile.engrad and standard output out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from rutile.core.units import BOHR, HARTREE
from rutile.label.labeler import Label
from rutile.label.programs.question import NoAnswer, Program, Question
from rutile.label.run import Ended, text_of
from rutile.label.settings import OrcaSettings

INPUT, GRADIENT = "rutile.inp", "rutile.engrad"


class Orca(Program):
    """How it is asked."""

    title = "ORCA"
    command = f"orca {INPUT}"
    version_words = ()
    asks_version = False
    install = "free for academic use: orcaforum.kofo.mpg.de"
    by_mpirun = False

    def version(self, text: str) -> str:
        """Of a line such as `Program Version 5.0.4 -  RELEASE  -`."""
        found = re.search(r"Program Version\s+(\S+)", text)
        return found[1] if found else ""

    def inputs(self, question: Question) -> dict[str, str | bytes]:
        """The input file."""
        settings, safer = question.settings, question.safer
        assert isinstance(settings, OrcaSettings)
        words = ["!", settings.functional, question.text("basis"), "EnGrad", "TightSCF", settings.keywords]
        words += ["SlowConv"] if safer else []
        lines = [" ".join(w for w in words if w), f"%scf MaxIter {500 if safer else 150} end"]
        if settings.processes > 1:
            lines.append(f"%pal nprocs {settings.processes} end")
        lines.append(f"* xyz {question.charge} {question.multiplicity}")
        for name, place in zip(question.atoms.symbols, question.atoms.positions.tolist(), strict=True):
            lines.append(" ".join([name, *map(repr, place)]))
        return {INPUT: "\n".join([*lines, "*", ""])}

    def read(self, question: Question, folder: Path, ended: Ended) -> Label:
        """Energy and gradient."""
        text = ended.output
        if "SCF NOT CONVERGED" in text or "The SCF is unconverged" in text or "did not converge" in text:
            raise NoAnswer("not converged", "ORCA says: SCF NOT CONVERGED")
        if "ORCA TERMINATED NORMALLY" not in text:
            raise NoAnswer("crashed", "ORCA did not finish")
        lines = [x for x in text_of(folder / GRADIENT).splitlines() if x.strip() and not x.lstrip().startswith("#")]
        n = len(question.atoms)
        if len(lines) < 2 + 3 * n or int(lines[0]) != n:
            raise NoAnswer("garbage", f"{GRADIENT} has no gradient of {n} atoms")
        gradient = np.array([float(x) for x in lines[2 : 2 + 3 * n]]).reshape(n, 3)
        return Label(float(lines[1]) * HARTREE, -gradient * HARTREE / BOHR, None)
