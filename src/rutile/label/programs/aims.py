"""FHI-aims: control.in and geometry.in in, standard output out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from rutile.label.labeler import Label
from rutile.label.programs.question import NoAnswer, Question
from rutile.label.run import Ended
from rutile.label.settings import AimsSettings, ProgramSettings

FUNCTIONALS = {"PBE": "pbe", "LDA": "pw-lda", "PBESOL": "pbesol"}
"""Names of functionals that FHI-aims calls otherwise."""
NUMBER = r"(-?\d+\.\d+(?:E[+-]?\d+)?)"


class Aims:
    """How it is asked."""

    title = "FHI-aims"
    command = "aims.x"
    version_words = ()
    asks_version = False
    install = "it is licensed: fhi-aims.org"
    by_mpirun = True

    def version(self, text: str) -> str:
        """Of a line such as `FHI-aims version      : 240507`."""
        found = re.search(r"FHI-aims version\s*:\s*(\S+)", text) or re.search(r"Version (\d{6}\S*)", text)
        return found[1] if found else ""

    def pseudopotentials(self, settings: ProgramSettings, symbols: list[str]) -> dict[str, Path]:
        """Species file of each element (FHI-aims computes all electrons)."""
        assert isinstance(settings, AimsSettings)
        if settings.species_dir is None:
            raise NoAnswer("missing pseudopotential", "say where the species defaults are: engine.species_dir=...")
        folder = settings.species_dir.expanduser() / str(settings.complete()["basis"])
        out = {s: folder / f"{atomic_numbers[s]:02d}_{s}_default" for s in symbols}
        for path in out.values():
            if not path.is_file():
                raise NoAnswer("missing pseudopotential", f"{path} is not there; see engine.species_dir, engine.basis")
        return out

    def inputs(self, question: Question) -> dict[str, str | bytes]:
        """Both files."""
        files = self.pseudopotentials(question.settings, question.symbols)
        species = "".join(files[s].read_text() for s in question.symbols)
        return {"geometry.in": "\n".join([*_geometry(question), ""]), "control.in": _control(question) + species}

    def read(self, question: Question, folder: Path, ended: Ended) -> Label:
        """Electronic free energy, forces, stress."""
        text = ended.output
        if "Self-consistency cycle not yet converged" in text.rsplit("Self-consistency cycle converged", 1)[-1]:
            raise NoAnswer("not converged", "FHI-aims says: Self-consistency cycle not yet converged")
        if "Have a nice day." not in text:
            raise NoAnswer("crashed", "FHI-aims did not finish")
        energies = re.findall(rf"\| Electronic free energy\s*:.*?{NUMBER} eV", text)
        block = text.rsplit("Total atomic forces", 1)[-1]
        n = len(question.atoms)
        rows = re.findall(r"^\s*\|\s*\d+" + 3 * rf"\s+{NUMBER}" + r"\s*$", block, re.MULTILINE)[:n]
        if not energies or len(rows) != n:
            raise NoAnswer("garbage", "FHI-aims' output has no energy and forces of all atoms")
        return Label(float(energies[-1]), np.array(rows, dtype=np.float64), _stress(text))


def _geometry(question: Question) -> Iterator[str]:
    """Lines of geometry.in."""
    if not question.molecule:
        for vector in question.atoms.cell.array.tolist():
            yield "lattice_vector " + " ".join(map(repr, vector))
    moments = question.atoms.get_initial_magnetic_moments()
    for name, place, moment in zip(question.atoms.symbols, question.atoms.positions.tolist(), moments, strict=True):
        yield "atom " + " ".join(map(repr, place)) + f" {name}"
        if question.complete["spin"]:
            yield f"initial_moment {moment:g}"


def _control(question: Question) -> str:
    """The general part of control.in."""
    settings = question.settings
    assert isinstance(settings, AimsSettings)
    lines = [
        f"xc {FUNCTIONALS.get(settings.functional.upper(), settings.functional)}",
        f"spin {'collinear' if settings.spin else 'none'}",
        "relativistic atomic_zora scalar",
        f"occupation_type fermi {max(settings.smearing, 1e-3)!r}",
        "sc_accuracy_rho 1E-6",
        "sc_accuracy_forces 1E-4",
        f"sc_iter_limit {500 if question.safer else 150}",
        "compute_forces .true.",
    ]
    if question.safer:
        lines.append("charge_mix_param 0.05")
    if not question.molecule:
        lines.append("k_grid " + " ".join(map(str, question.kpoints)))
    if question.crystal:
        lines.append("compute_analytical_stress .true.")
    lines += [f"{key} {value}" for key, value in settings.control.items()]
    return "\n".join([*lines, "", ""])


def _stress(text: str) -> np.ndarray | None:
    """The stress tensor (eV/Angstrom^3), positive under tension."""
    if "Analytical stress tensor - Symmetrized" not in text:
        return None
    block = text.rsplit("Analytical stress tensor - Symmetrized", 1)[-1]
    rows = re.findall(r"^\s*\|\s+[xyz]" + 3 * rf"\s+{NUMBER}" + r"\s*\|?\s*$", block, re.MULTILINE)[:3]
    return np.array(rows, dtype=np.float64) if len(rows) == 3 else None
