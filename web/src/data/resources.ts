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
]

/** Sets that come with rutile (CC0): a job copies one. */
export const STARTERS = [
  { name: 'silicon', what: 'silicon: crystals, strained and shaken; disordered cells', method: 'PBE (GPAW)', frames: 69 },
  { name: 'tio2', what: 'titanium dioxide: polymorphs, strained and shaken', method: 'PBE (GPAW)', frames: 341 },
  { name: 'molecules', what: 'small molecules', method: 'GFN2-xTB (tblite)', frames: 504 },
]
