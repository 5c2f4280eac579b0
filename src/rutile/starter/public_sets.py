"""Labelled structures that others have made public: what they are, their licence, and how rutile reads them.

The files stay where their authors keep them. Look at the licence there before you use them, and cite the paper.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class PublicSet:
    """One public set."""

    name: str
    """As people call it."""
    what: str
    """What kind of structures, in one line."""
    elements: tuple[str, ...]
    """Symbols; none: most of the periodic table."""
    method: str
    """Level of theory, and code."""
    frames: str
    """How many structures with labels."""
    licence: str
    """Terms of use, as its authors state them."""
    doi: str
    """Of the paper to cite."""
    files: str
    """Where the files are."""
    command: str
    """What rutile does with the files, in the folder into which they were unpacked."""

    def holds(self, elements: Collection[str]) -> bool:
        """Whether structures with all these elements may be in it."""
        return not self.elements or set(elements) <= set(self.elements)


_BOTNET = "https://github.com/davkovacs/BOTNet-datasets"
_MOLECULE = ("H", "C", "O")
PUBLIC_SETS = (
    PublicSet(
        "MPtrj",
        "relaxations of the Materials Project, 89 elements",
        (),
        "PBE, PBE+U (VASP)",
        "1.6 million",
        "MIT",
        "10.1038/s42256-023-00716-3",
        "https://figshare.com/files/49034296",
        "rutile convert mptrj/*.extxyz out=mptrj.store",
    ),
    PublicSet(
        "OMat24",
        "inorganic bulk, rattled, heated and relaxed",
        (),
        "PBE, PBE+U (VASP)",
        "110 million",
        "CC BY 4.0",
        "10.48550/arXiv.2410.12771",
        "https://huggingface.co/datasets/facebook/OMAT24",
        "rutile convert omat/*.aselmdb out=omat.store",
    ),
    PublicSet(
        "sAlex",
        "relaxations of the Alexandria database, without those of the test set of Matbench Discovery",
        (),
        "PBE, PBE+U (VASP)",
        "10.4 million",
        "CC BY 4.0",
        "10.48550/arXiv.2410.12771",
        "https://huggingface.co/datasets/facebook/OMAT24",
        "rutile convert salex/*.aselmdb out=salex.store",
    ),
    PublicSet(
        "OMol25",
        "molecules, metal complexes, electrolytes, biomolecules; 83 elements",
        (),
        "ωB97M-V/def2-TZVPD (ORCA)",
        "100 million",
        "CC BY 4.0",
        "10.48550/arXiv.2505.08762",
        "https://huggingface.co/facebook/OMol25",
        "rutile convert omol/*.aselmdb out=omol.store",
    ),
    PublicSet(
        "OMC25",
        "molecular crystals on their way to minima",
        (),
        "PBE-D3 (VASP)",
        "25 million",
        "CC BY 4.0",
        "10.48550/arXiv.2508.02651",
        "https://huggingface.co/facebook/OMC25",
        "rutile convert omc/*.aselmdb out=omc.store",
    ),
    PublicSet(
        "OC20",
        "adsorbates on surfaces, 55 elements",
        (),
        "RPBE (VASP)",
        "133 million",
        "CC BY 4.0",
        "10.1021/acscatal.0c04525",
        "https://facebookresearch.github.io/fairchem/oc20",
        "rutile convert s2ef/*.extxyz out=oc20.store",
    ),
    PublicSet(
        "MatterSim",
        "six sets for tests: crystals at high temperature and pressure, 89 elements",
        (),
        "PBE, PBE+U (VASP)",
        "5 217",
        "MIT",
        "10.48550/arXiv.2405.04967",
        "https://github.com/microsoft/mattersim/tree/main/data/benchmarks",
        "rutile convert benchmarks/*.xyz out=mattersim.extxyz",
    ),
    PublicSet(
        "3BPA",
        "a flexible molecule at 300, 600 and 1200 K, and its torsions",
        ("H", "C", "N", "O"),
        "ωB97X/6-31G(d) (ORCA)",
        "500, and tests",
        "MIT",
        "10.1021/acs.jctc.1c00647",
        _BOTNET,
        "rutile train dataset_3BPA/train_300K.xyz",
    ),
    PublicSet(
        "Acetylacetone",
        "dynamics at 300 and 600 K, the transfer of its hydrogen, a torsion",
        _MOLECULE,
        "PBE-D3/def2-SVP (ORCA)",
        "1 000, and tests",
        "MIT",
        "10.48550/arXiv.2205.06643",
        _BOTNET,
        "rutile train dataset_acac/train_300K.xyz",
    ),
    PublicSet(
        "Ethanol and methanol",
        "dynamics, dissociating bonds, normal modes",
        _MOLECULE,
        "PBE/def2-SVP (ORCA)",
        "1 300, and tests",
        "MIT",
        "10.48550/arXiv.2205.06643",
        _BOTNET,
        "rutile train dataset_ethanol/train.xyz",
    ),
    PublicSet(
        "TiO2",
        "titanium dioxide with and without vacancies, 6 to 95 atoms",
        ("O", "Ti"),
        "DFT (Quantum ESPRESSO)",
        "1 000 of 7 815",
        "MIT (with aenet-PyTorch)",
        "10.1016/j.commatsci.2015.11.047",
        "https://github.com/atomisticnet/aenet-PyTorch",
        'rutile convert "dir_xsf/*.xsf" out=tio2.extxyz',
    ),
    PublicSet(
        "Li-Mo-Ni-Ti-O",
        "a disordered cathode of 56 atoms, dynamics",
        ("Li", "O", "Ti", "Ni", "Mo"),
        "DFT",
        "824",
        "MPL 2.0 (with aenet-python)",
        "10.1038/s41524-020-0323-8",
        "https://github.com/atomisticnet/aenet-python",
        'rutile convert "notebooks/xsf/*.xsf" out=lmnto.extxyz',
    ),
    PublicSet(
        "MO2 polymorphs",
        "equations of state of six structures of TiO2, VO2, SnO2, RuO2 and IrO2",
        ("O", "Ti", "V", "Ru", "Sn", "Ir"),
        "PBE (VASP)",
        "295",
        "MIT (with fairchem)",
        "10.1021/am4059149",
        "https://github.com/FAIR-Chem/fairchem",
        "rutile convert oxides.db out=oxides.extxyz",
    ),
    PublicSet(
        "Water",
        "liquid water, 64 molecules",
        ("H", "O"),
        "as DeePMD-kit has it",
        "400",
        "LGPL 3.0 (with DeePMD-kit)",
        "10.1016/j.cpc.2018.03.016",
        "https://github.com/deepmodeling/deepmd-kit/tree/master/examples/water/data",
        "rutile convert data_0 data_1 data_2 data_3 out=water.extxyz",
    ),
)
"""Largest first."""


def that_hold(elements: Collection[str]) -> list[PublicSet]:
    """Those in which structures with all these elements may be.

    Args:
        elements: symbols; none: all sets.

    >>> [one.name for one in that_hold(["Ti", "O"]) if one.elements]
    ['TiO2', 'Li-Mo-Ni-Ti-O', 'MO2 polymorphs']
    """
    return [one for one in PUBLIC_SETS if one.holds(elements)]
