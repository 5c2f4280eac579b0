/** Public data that rutile reads, with what is needed to use them rightly. */
export interface Resource {
  name: string
  what: string
  method: string
  frames: string
  licence: string
  /** Of the paper to cite. */
  doi: string
  /** Where the files are. */
  files: string
  /** What rutile does with the files. */
  command: string
}

export const RESOURCES: Resource[] = [
  {
    name: 'MPtrj', what: 'relaxations of the Materials Project, 89 elements', method: 'PBE, PBE+U (VASP)', frames: '1.6 million', licence: 'CC BY 4.0',
    doi: '10.1038/s42256-023-00716-3', files: 'https://doi.org/10.6084/m9.figshare.22715158', command: 'rutile convert mptrj/*.extxyz out=mptrj.store',
  },
  {
    name: 'OMat24', what: 'inorganic bulk, rattled, heated and relaxed', method: 'PBE, PBE+U (VASP)', frames: '110 million', licence: 'CC BY 4.0',
    doi: '10.48550/arXiv.2410.12771', files: 'https://huggingface.co/datasets/facebook/OMAT24', command: 'rutile convert omat/*.aselmdb out=omat.store',
  },
  {
    name: 'OMol25', what: 'molecules, metal complexes, electrolytes, biomolecules; 83 elements', method: 'ωB97M-V/def2-TZVPD (ORCA)', frames: '100 million', licence: 'CC BY 4.0',
    doi: '10.48550/arXiv.2505.08762', files: 'https://huggingface.co/facebook/OMol25', command: 'rutile convert omol/*.aselmdb out=omol.store',
  },
  {
    name: 'OMC25', what: 'molecular crystals on their way to minima', method: 'PBE-D3 (VASP)', frames: '25 million', licence: 'CC BY 4.0',
    doi: '10.48550/arXiv.2508.02651', files: 'https://huggingface.co/facebook/OMC25', command: 'rutile convert omc/*.aselmdb out=omc.store',
  },
  {
    name: 'OC20', what: 'adsorbates on surfaces, 55 elements', method: 'RPBE (VASP)', frames: '133 million', licence: 'CC BY 4.0',
    doi: '10.1021/acscatal.0c04525', files: 'https://facebookresearch.github.io/fairchem/oc20', command: 'rutile convert s2ef/*.extxyz out=oc20.store',
  },
  {
    name: 'MatterSim', what: 'six sets for tests: crystals at high temperature and pressure, 89 elements', method: 'PBE, PBE+U (VASP)', frames: '5 217', licence: 'MIT',
    doi: '10.48550/arXiv.2405.04967', files: 'https://github.com/microsoft/mattersim/tree/main/data/benchmarks', command: 'rutile convert benchmarks/*.xyz out=mattersim.extxyz',
  },
  {
    name: '3BPA', what: 'a flexible molecule at 300, 600 and 1200 K, and its torsions', method: 'ωB97X/6-31G(d) (ORCA)', frames: '500, and tests', licence: 'MIT',
    doi: '10.1021/acs.jctc.1c00647', files: 'https://github.com/davkovacs/BOTNet-datasets', command: 'rutile train dataset_3BPA/train_300K.xyz',
  },
  {
    name: 'Acetylacetone', what: 'dynamics at 300 and 600 K, the transfer of its hydrogen, a torsion', method: 'PBE-D3/def2-SVP (ORCA)', frames: '1 000, and tests', licence: 'MIT',
    doi: '10.48550/arXiv.2205.06643', files: 'https://github.com/davkovacs/BOTNet-datasets', command: 'rutile train dataset_acac/train_300K.xyz',
  },
  {
    name: 'TiO2', what: 'titanium dioxide with and without vacancies, 6 to 95 atoms', method: 'DFT (Quantum ESPRESSO)', frames: '1 000 of 7 815', licence: 'MIT (with aenet-PyTorch)',
    doi: '10.1016/j.commatsci.2015.11.047', files: 'https://github.com/atomisticnet/aenet-PyTorch', command: 'rutile convert "dir_xsf/*.xsf" out=tio2.extxyz',
  },
  {
    name: 'MO2 polymorphs', what: 'equations of state of six structures of TiO2, VO2, SnO2, RuO2 and IrO2', method: 'PBE (VASP)', frames: '295', licence: 'MIT (with fairchem)',
    doi: '10.1021/am4059149', files: 'https://github.com/FAIR-Chem/fairchem', command: 'rutile convert oxides.db out=oxides.extxyz',
  },
  {
    name: 'Water', what: 'liquid water, 64 molecules', method: 'as DeePMD-kit has it', frames: '400', licence: 'LGPL 3.0 (with DeePMD-kit)',
    doi: '10.1016/j.cpc.2018.03.016', files: 'https://github.com/deepmodeling/deepmd-kit/tree/master/examples/water/data', command: 'rutile convert data_0 data_1 data_2 data_3 out=water.extxyz',
  },
]

/** Sets that come with rutile (CC0): a job copies one. */
export const STARTERS = [
  { name: 'silicon', what: 'silicon: crystals, strained and shaken; disordered cells', method: 'PBE (GPAW)', frames: 69 },
  { name: 'tio2', what: 'titanium dioxide: polymorphs, strained and shaken', method: 'PBE (GPAW)', frames: 341 },
  { name: 'molecules', what: 'small molecules', method: 'GFN2-xTB (tblite)', frames: 504 },
]
