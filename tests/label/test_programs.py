"""Input files and stored outputs of programs; the outputs have the shape of the programs' own, written by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read

from rutile.core.units import BOHR, GPA, HARTREE
from rutile.label.labeler import Failure, Label
from rutile.label.program import PROGRAMS, ProgramLabeler, ask, judged, program_of
from rutile.label.run import Ended
from rutile.label.settings import (
    AbinitSettings,
    AimsSettings,
    Cp2kSettings,
    EspressoSettings,
    GaussianSettings,
    OrcaSettings,
    VaspSettings,
)

WATER_FORCES = np.array([[0.0, 0.0, 0.03], [0.0, 0.01, -0.015], [0.0, -0.01, -0.015]])
"""Hartree/Bohr."""


@pytest.fixture
def pseudos(tmp_path):
    """Files that look like pseudopotentials."""
    for symbol in ("O", "Ti"):
        (tmp_path / symbol).mkdir()
        (tmp_path / symbol / "POTCAR").write_text(f"PAW_PBE {symbol}\n")
    (tmp_path / "light").mkdir()
    for name in ("08_O", "22_Ti", "01_H"):
        (tmp_path / "light" / f"{name}_default").write_text(f"  species {name}\n")
    header = '<UPF version="2.0.1">\n<PP_HEADER element="{}" functional="{}" relativistic="scalar"/>\n'
    for name, functional in (("Si.pz-a.UPF", "SLA PZ NOGX NOGC"), ("Si.pbe-b.UPF", "PBE"), ("Si.rel-pbe-a.UPF", "PBE")):
        (tmp_path / name).write_text(header.format("Si", functional))
    (tmp_path / "14si.4.hgh").write_text("Goedecker pseudopotential\n 14  4.00000 960508 zatom,zion,pspd\n")
    return tmp_path


def rutile_cell():
    u = 0.305
    basis = [(0, 0, 0), (0.5, 0.5, 0.5), (u, u, 0), (-u, -u, 0), (0.5 - u, 0.5 + u, 0.5), (0.5 + u, 0.5 - u, 0.5)]
    atoms = Atoms("TiTiOOOO", scaled_positions=basis, cell=[4.594, 4.594, 2.959], pbc=True)
    return atoms[[2, 0, 3, 1, 4, 5]]  # mixed, so that programs that sort are tested


def text_inputs(settings, atoms, safer=False):
    files = program_of(settings).inputs(ask(settings, atoms, safer))
    return {name: content if isinstance(content, str) else content.decode() for name, content in files.items()}


def outcome(settings, atoms, folder, output="", code=0, **files):
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    (folder / "rutile.out").write_text(output)
    return judged(program_of(settings), ask(settings, atoms), folder, Ended(code, output, ""))


def test_every_program_converges_more_surely_when_asked(pseudos):
    for settings, atoms in (
        (EspressoSettings(pseudo_dir=pseudos), bulk("Si")),
        (Cp2kSettings(), bulk("Si")),
        (AbinitSettings(pseudo_dir=pseudos, functional="LDA"), bulk("Si")),
        (VaspSettings(pseudo_dir=pseudos), rutile_cell()),
        (AimsSettings(species_dir=pseudos, protocol="fast"), rutile_cell()),
        (OrcaSettings(), molecule("H2O")),
        (GaussianSettings(), molecule("H2O")),
    ):
        assert text_inputs(settings, atoms) != text_inputs(settings, atoms, safer=True), settings.name
        assert text_inputs(settings, atoms) == text_inputs(settings, atoms)
    assert set(PROGRAMS) == {"espresso", "cp2k", "abinit", "vasp", "aims", "orca", "gaussian"}


def test_espresso_input_reads_back(pseudos, tmp_path):
    atoms = bulk("Si")
    atoms.rattle(0.1, seed=0)
    settings = EspressoSettings(pseudo_dir=pseudos, cutoff=600.0, density_cutoff=4000.0, k_density=10.0)
    files = text_inputs(settings, atoms)
    assert set(files) == {"rutile.in", "Si.pbe-b.UPF"}  # not the LDA one, not the fully relativistic one
    text = files["rutile.in"]
    (tmp_path / "pw.in").write_text(text)
    back = read(tmp_path / "pw.in", format="espresso-in")
    assert np.allclose(back.positions, atoms.positions, atol=1e-8)
    assert np.allclose(back.cell.array, atoms.cell.array, atol=1e-8)
    assert "4 4 4  0 0 0" in text
    cutoff = next(line for line in text.splitlines() if "ecutwfc" in line)
    assert float(cutoff.split("=")[1]) == pytest.approx(600.0 / (HARTREE / 2))


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (EspressoSettings(pseudo_dir=Path("/nowhere")), "no pseudopotential of Si for PBE in /nowhere"),
        (EspressoSettings(pseudo_dir=Path("/nowhere"), pseudopotentials={"Si": "x.UPF"}), "/nowhere/x.UPF"),
        (AbinitSettings(pseudo_dir=Path("/nowhere")), "no pseudopotential of Si"),
        (VaspSettings(), "engine.pseudo_dir"),
        (VaspSettings(pseudo_dir=Path("/nowhere")), "/nowhere/Si/POTCAR"),
        (AimsSettings(), "engine.species_dir"),
    ],
)
def test_a_missing_pseudopotential_is_said_before_anything_runs(settings, word):
    failure = ProgramLabeler(settings).refuse(bulk("Si"))
    assert failure.kind == "missing pseudopotential"
    assert word in failure.reason


VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <incar><i type="int" name="NELM">{most}</i></incar>
 <kpoints><varray name="kpointlist"><v> 0.0 0.0 0.0 </v></varray><varray name="weights"><v> 1.0 </v></varray></kpoints>
 <parameters><separator name="electronic"><i type="int" name="NELM">{most}</i></separator></parameters>
 <atominfo><array name="atoms"><set>
  <rc><c>O </c><c>1</c></rc><rc><c>O </c><c>1</c></rc><rc><c>O </c><c>1</c></rc><rc><c>O </c><c>1</c></rc>
  <rc><c>Ti</c><c>2</c></rc><rc><c>Ti</c><c>2</c></rc></set></array></atominfo>
 {structure}
 <calculation>
  <scstep><energy><i name="e_fr_energy">-50.0</i><i name="e_0_energy">-49.8</i></energy></scstep>
  <scstep><energy><i name="e_fr_energy">-52.5</i><i name="e_0_energy">-52.3</i></energy></scstep>
  {final}
  <varray name="forces">{forces}</varray>
  <varray name="stress"><v> 10.0 1.0 2.0 </v><v> 1.0 -20.0 3.0 </v><v> 2.0 3.0 30.0 </v></varray>
  <energy><i name="e_fr_energy">-52.5</i><i name="e_wo_entrp">-52.1</i><i name="e_0_energy">-52.3</i></energy>
 </calculation>
</modeling>
"""


def vasprun(atoms, most=60):
    order = sorted(range(len(atoms)), key=lambda k: (atoms.symbols[k], k))
    forces = np.arange(18.0).reshape(6, 3) * 0.01
    forces -= forces.mean(axis=0)

    def rows(values):
        return "".join("<v> " + " ".join(map(repr, v)) + " </v>" for v in values.tolist())

    basis, places = rows(atoms.cell.array), rows(atoms.get_scaled_positions()[order])
    inside = f'<crystal><varray name="basis">{basis}</varray></crystal><varray name="positions">{places}</varray>'
    text = VASPRUN.format(
        most=most, structure=f'<structure name="initialpos">{inside}</structure>', forces=rows(forces[order]),
        final=f"<structure>{inside}</structure>",
    )  # fmt: skip
    return text, forces


def test_vasp(pseudos, tmp_path):
    atoms, settings = rutile_cell(), VaspSettings(pseudo_dir=pseudos, k_density=10.0, incar={"LDAU": True, "NCORE": 4})
    files = text_inputs(settings, atoms)
    assert files["POTCAR"] == "PAW_PBE O\nPAW_PBE Ti\n"
    for line in ("ENCUT = 520.0", "ISMEAR = -1", "SIGMA = 0.05", "LDAU = .TRUE.", "NCORE = 4", "GGA = PE", "NSW = 0"):
        assert line in files["INCAR"].splitlines()
    assert files["KPOINTS"].splitlines()[2:4] == ["Gamma", "3 3 4"]
    (tmp_path / "POSCAR").write_text(files["POSCAR"])
    back = read(tmp_path / "POSCAR")
    assert back.get_chemical_symbols() == ["O"] * 4 + ["Ti"] * 2
    assert np.allclose(back.positions[4], atoms.positions[1])
    text, forces = vasprun(atoms)
    label = outcome(settings, atoms, tmp_path, vasprun__xml=text, output=" vasp.6.4.2 20Jul23 (build Aug) complex\n")
    assert isinstance(label, Label)
    assert label.energy == -52.5  # the free energy
    assert np.allclose(label.forces, forces)
    assert np.allclose(label.stress, -0.1 * GPA * np.array([[10, 1, 2], [1, -20, 3], [2, 3, 30]]))
    assert program_of(settings).version(" vasp.6.4.2 20Jul23 (build Aug) complex") == "6.4.2"
    assert outcome(settings, atoms, tmp_path, vasprun__xml=vasprun(atoms, most=2)[0]).kind == "not converged"
    assert outcome(settings, atoms, tmp_path, vasprun__xml=text[: len(text) // 2]).kind == "crashed"


AIMS = """
  Invoking FHI-aims ...
  FHI-aims version      : 240507
          Self-consistency cycle converged.
  | Total energy                  :       -3731.10000000 Ha         -101528.00000000 eV
  | Total energy, T -> 0          :       -3731.10000000 Ha         -101527.90000000 eV
  | Electronic free energy        :       -3731.20000000 Ha         -101528.25000000 eV
  Total atomic forces (unitary forces cleaned) [eV/Ang]:
{rows}
  +-------------------------------------------------------------------+
  |              Analytical stress tensor - Symmetrized               |
  |                  Cartesian components [eV/A**3]                   |
  +-------------------------------------------------------------------+
  |                x                y                z                |
  |                                                                   |
  |  x         0.01000000       0.00100000       0.00200000           |
  |  y         0.00100000      -0.02000000       0.00300000           |
  |  z         0.00200000       0.00300000       0.03000000           |
  |                                                                   |
          Have a nice day.
"""


def test_aims(pseudos, tmp_path):
    atoms, settings = rutile_cell(), AimsSettings(species_dir=pseudos, protocol="fast", spin=True)
    files = text_inputs(settings, atoms)
    (tmp_path / "geometry.in").write_text(files["geometry.in"])
    assert files["geometry.in"].count("lattice_vector") == 3
    assert files["geometry.in"].count("initial_moment 1") == 6
    assert "k_grid 3 3 4" in files["control.in"]
    assert files["control.in"].endswith("  species 08_O\n  species 22_Ti\n")
    forces = np.arange(18.0).reshape(6, 3) * 0.01
    forces -= forces.mean(axis=0)
    rows = "\n".join(f"  |{k + 1:5d} " + " ".join(f"{x:25.15E}" for x in f) for k, f in enumerate(forces))
    label = outcome(settings, atoms, tmp_path, AIMS.format(rows=rows))
    assert isinstance(label, Label), label
    assert label.energy == -101528.25
    assert np.allclose(label.forces, forces)
    assert np.allclose(label.stress, [[0.01, 0.001, 0.002], [0.001, -0.02, 0.003], [0.002, 0.003, 0.03]])
    worse = "  Self-consistency cycle not yet converged - restarting mixer\n" + "  ** giving up\n"
    assert outcome(settings, atoms, tmp_path, worse).kind == "not converged"
    assert outcome(settings, atoms, tmp_path, AIMS.format(rows=rows)[:300], code=1).kind == "crashed"
    water = text_inputs(settings, Atoms("OTi", positions=[(0, 0, 0), (0, 0, 1.6)]))
    assert "lattice_vector" not in water["geometry.in"]
    assert "k_grid" not in water["control.in"]


ENGRAD = """#
# Number of atoms
#
 3
#
# The current total energy in Eh
#
    -76.379123456789
#
# The current gradient in Eh/bohr
#
{rows}
#
# The atomic numbers and current coordinates in Bohr
#
   8     0.0000000    0.0000000    0.2253726
"""


def test_orca(tmp_path):
    atoms, settings = molecule("H2O"), OrcaSettings(functional="B3LYP", keywords="D4", processes=4)
    files = text_inputs(settings, atoms)
    assert "! B3LYP def2-TZVP EnGrad TightSCF D4" in files["rutile.inp"].splitlines()
    assert "%pal nprocs 4 end" in files["rutile.inp"]
    assert "* xyz 0 1" in files["rutile.inp"]
    charged = molecule("H2O")
    charged.info["charge"] = 1
    assert "* xyz 1 2" in text_inputs(settings, charged)["rutile.inp"]
    gradient = ENGRAD.format(rows="\n".join(f"{x:21.12f}" for x in (-WATER_FORCES).ravel()))
    good = "Program Version 5.0.4 -  RELEASE  -\n ****ORCA TERMINATED NORMALLY****\n"
    label = outcome(settings, atoms, tmp_path, good, rutile__engrad=gradient)
    assert isinstance(label, Label), label
    assert label.energy == pytest.approx(-76.379123456789 * HARTREE)
    assert np.allclose(label.forces, WATER_FORCES * HARTREE / BOHR)
    assert label.stress is None
    assert program_of(settings).version(good) == "5.0.4"
    assert outcome(settings, atoms, tmp_path, "SCF NOT CONVERGED AFTER 150 CYCLES\n", 1).kind == "not converged"
    assert outcome(settings, atoms, tmp_path, "ORCA finished by error termination\n", 25).kind == "crashed"
    assert outcome(settings, atoms, tmp_path, good, rutile__engrad=gradient[:150]).kind == "garbage"


GAUSSIAN = """ Entering Gaussian System, Link 0=g16
 Gaussian 16:  ES64L-G16RevC.01  3-Jul-2019
 SCF Done:  E(RPBE-PBE) =  -76.3700000000     A.U. after    8 cycles
 -------------------------------------------------------------------
 Center     Atomic                   Forces (Hartrees/Bohr)
 Number     Number              X              Y              Z
 -------------------------------------------------------------------
{rows}
 -------------------------------------------------------------------
 Normal termination of Gaussian 16 at Sun Nov 22 03:00:00 2026.
"""


def test_gaussian(tmp_path):
    atoms, settings = molecule("H2O"), GaussianSettings(threads=4, protocol="fast")
    text = text_inputs(settings, atoms)["rutile.gjf"]
    assert "#P PBEPBE/def2SVP Force NoSymm SCF=(Tight,MaxCycle=128)" in text.splitlines()
    (tmp_path / "x.gjf").write_text(text)
    back = read(tmp_path / "x.gjf", format="gaussian-in")
    assert np.allclose(back.positions, atoms.positions, atol=1e-9)
    numbered = zip(atoms.numbers, WATER_FORCES, strict=True)
    rows = "\n".join(f"{k:7d}{z:9d}    " + "".join(f"{x:15.9f}" for x in f) for k, (z, f) in enumerate(numbered, 1))
    label = outcome(settings, atoms, tmp_path, rutile__log=GAUSSIAN.format(rows=rows))
    assert isinstance(label, Label), label
    assert label.energy == pytest.approx(-76.37 * HARTREE)
    assert np.allclose(label.forces, WATER_FORCES * HARTREE / BOHR)
    assert program_of(settings).version(GAUSSIAN) == "G16RevC.01"
    bad = " Convergence failure -- run terminated.\n"
    assert outcome(settings, atoms, tmp_path, rutile__log=bad, code=1).kind == "not converged"


CP2K = """ CP2K| version string:                                       CP2K version 2023.1
  *** SCF run converged in    14 steps ***
 ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:               -7.774683903280446
 ATOMIC FORCES in [a.u.]
 # Atom   Kind   Element          X              Y              Z
      1      1      Si          0.01000000     0.02000000    -0.03000000
      2      1      Si         -0.01000000    -0.02000000     0.03000000
 SUM OF ATOMIC FORCES           0.00000000     0.00000000     0.00000000     0.00000000
 STRESS| Analytical stress tensor [GPa]
 STRESS|                        x                   y                   z
 STRESS|      x        1.00000000000E+00  -2.00000000000E-01   3.00000000000E-01
 STRESS|      y       -2.00000000000E-01   2.00000000000E+00   4.00000000000E-01
 STRESS|      z        3.00000000000E-01   4.00000000000E-01   3.00000000000E+00
 STRESS| 1/3 Trace                                             2.00000000000E+00
 STRESS| Eigenvectors and eigenvalues of the analytical stress tensor [GPa]
 STRESS|                        1                   2                   3
 STRESS| Eigenvalues   8.94083992602E-01   1.86829366792E+00   3.23762233947E+00
 STRESS|      x          -0.729668055233      0.114482042044      0.674150125136
 STRESS|      y           0.646344287770      0.437290003695      0.625313133027
 STRESS|      z          -0.223211986326      0.892004100169     -0.393071360497
"""


def test_cp2k(tmp_path):
    atoms, settings = bulk("Si"), Cp2kSettings(k_density=10.0)
    text = text_inputs(settings, atoms)["rutile.inp"]
    assert "SCHEME MACDONALD 4 4 4 0.125" in text
    assert "PERIODIC XYZ" in text
    assert text.count("&") == 2 * text.count("&END")
    water = text_inputs(settings, molecule("H2O"))["rutile.inp"]
    assert "&KPOINTS" not in water
    assert "POISSON_SOLVER MT" in water
    label = outcome(settings, atoms, tmp_path, CP2K)
    assert isinstance(label, Label), label
    assert label.energy == pytest.approx(-7.774683903280446 * HARTREE)
    assert np.allclose(label.forces[0], np.array([0.01, 0.02, -0.03]) * HARTREE / BOHR)
    assert np.allclose(label.stress, -GPA * np.array([[1, -0.2, 0.3], [-0.2, 2, 0.4], [0.3, 0.4, 3]]))
    assert program_of(settings).version(CP2K) == "2023.1"
    assert outcome(settings, atoms, tmp_path, CP2K.replace("converged in", "NOT converged"), 1).kind == "not converged"
    assert outcome(settings, atoms, tmp_path, CP2K[:300]).kind == "garbage"
    assert outcome(settings, atoms, tmp_path, "Segmentation fault", 139).kind == "crashed"


ABINIT = """.Version 9.6.2 of ABINIT
 At SCF step   14, etot is converged :
           etotal     -7.8335361085E+00
            fcart      1.0000000000E-02  2.0000000000E-02 -3.0000000000E-02
                      -1.0000000000E-02 -2.0000000000E-02  3.0000000000E-02
           strten      1.0000000000E-04  2.0000000000E-04  3.0000000000E-04
                       4.0000000000E-05  5.0000000000E-05  6.0000000000E-05
 Calculation completed.
"""


def test_abinit(pseudos, tmp_path):
    atoms, settings = bulk("Si"), AbinitSettings(pseudo_dir=pseudos, functional="LDA")
    files = text_inputs(settings, atoms)
    assert set(files) == {"rutile.abi", "14si.4.hgh"}
    assert "nband 9" in files["rutile.abi"].splitlines()  # 8 electrons: 4 bands, a fifth more, and 4
    label = outcome(settings, atoms, tmp_path, rutile__abo=ABINIT)
    assert isinstance(label, Label), label
    assert label.energy == pytest.approx(-7.8335361085 * HARTREE)
    assert np.allclose(label.forces[0], np.array([0.01, 0.02, -0.03]) * HARTREE / BOHR)
    voigt = np.array([1, 2, 3, 0.4, 0.5, 0.6]) * 1e-4 * HARTREE / BOHR**3
    assert np.allclose([label.stress[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))], voigt)
    bad = ABINIT.replace("etot is converged", "nstep= 80 was not enough SCF cycles to converge")
    assert outcome(settings, atoms, tmp_path, rutile__abo=bad).kind == "not converged"
    assert outcome(settings, atoms, tmp_path, rutile__abo=ABINIT[:200], code=1).kind == "crashed"


def script(tmp_path, text):
    path = tmp_path / "fake.py"
    path.write_text(text)
    return f"{sys.executable} {path}"


@pytest.mark.slow
def test_a_program_runs_in_a_folder_of_its_own_with_a_time_limit(tmp_path):
    atoms = bulk("Si")
    good = script(tmp_path, f"import os\nassert os.listdir() and 'rutile.inp' in os.listdir()\nprint({CP2K!r})")
    label = ProgramLabeler(Cp2kSettings(command=good)).label(atoms)
    assert isinstance(label, Label), label
    assert label.provenance["code"] == "CP2K 2023.1"
    assert label.provenance["kpoints"] == [7, 7, 7]
    slow = script(tmp_path, "import time\nprint('still here', flush=True)\ntime.sleep(600)")
    failure = ProgramLabeler(Cp2kSettings(command=slow, time_limit=4.0)).label(atoms)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.last_lines) == ("time limit", ("still here",))
    dies = script(tmp_path, "import os\nprint('no memory', flush=True)\nos.abort()")
    failure = ProgramLabeler(Cp2kSettings(command=dies)).label(atoms)
    assert failure.kind == "crashed"
    assert "no memory" in failure.last_lines


def test_orca_and_gaussian_start_their_processes_themselves(tmp_path, monkeypatch):
    for name in ("orca", "mpirun"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    orca = ProgramLabeler(OrcaSettings(functional="B3LYP", processes=4))
    assert orca.command == [str(tmp_path / "orca"), "rutile.inp"], "in full, as ORCA asks"
    gaussian = GaussianSettings(functional="B3LYP", processes=4, threads=2)
    assert ProgramLabeler(gaussian).command == ["g16", "rutile.gjf"]
    assert "%NProcShared=8" in text_inputs(gaussian, molecule("H2O"))["rutile.gjf"]


@pytest.mark.parametrize("beside", [True, False])
def test_several_processes_are_started_by_the_mpirun_beside_the_program(tmp_path, monkeypatch, beside):
    """Another one that is found first, as of a virtual environment, may be of another MPI."""
    places = {"environment": ["mpirun"], "system": ["pw.x", "mpirun"] if beside else ["pw.x"]}
    for folder, names in places.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text("#!/bin/sh\n")
            (tmp_path / folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", ":".join(str(tmp_path / folder) for folder in places))
    several = EspressoSettings(functional="LDA", processes=8)
    started = str(tmp_path / "system" / "mpirun") if beside else "mpirun"
    assert ProgramLabeler(several).command == [started, "-np", "8", "pw.x", "-in", "rutile.in"]
    assert ProgramLabeler(several.model_copy(update={"processes": 1})).command == ["pw.x", "-in", "rutile.in"]
    given = several.model_copy(update={"command": "srun pw.x -in rutile.in"})
    assert ProgramLabeler(given).command == ["srun", "pw.x", "-in", "rutile.in"]
