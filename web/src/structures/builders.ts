/** Builders with settings that make something at once: what a form begins with. */
import { href } from '../lib/router.svelte'

type Settings = Record<string, unknown>

/** Of a structure that is there (a reference), or of copper and titanium dioxide. */
export const BUILDERS: Record<string, (from?: string) => Settings> = {
  prototype: (from) => ({ name: 'bulk', crystals: from ? { files: [from] } : { elements: ['Ti', 'O'], prototypes: ['rutile', 'anatase'] }, rattle: [0, 0], strain: [0, 0], scale: [1, 1], count: 2 }),
  supercell: (from) => ({ name: 'bulk', crystals: crystals(from), atoms: 64, count: 10 }),
  strained: (from) => ({ name: 'bulk', crystals: crystals(from), strain: [0.01, 0.05], scale: [1, 1], rattle: [0, 0], count: 10 }),
  defect: (from) => ({ name: 'bulk', crystals: crystals(from), atoms: 64, vacancies: 0.03, count: 10 }),
  slab: (from) => ({ name: 'slab', crystals: crystals(from), miller: [[1, 1, 1]], count: 10 }),
  adsorbate: (from) => ({ name: 'adsorption', crystals: crystals(from), molecules: { names: ['CO'] }, miller: [[1, 1, 1]], count: 10 }),
  boundary: (from) => ({ name: 'boundary', crystals: crystals(from), sigma: 5, axes: [[0, 0, 1]], count: 4 }),
  nanoparticle: () => ({ name: 'cluster', elements: ['Cu'], shapes: ['icosahedron', 'wulff'], atoms: [13, 60], count: 6 }),
  alloy: () => ({ name: 'alloy', elements: ['Cu', 'Au'], lattices: ['fcc'], count: 10 }),
  molecule: () => ({ name: 'molecule', molecules: { smiles: ['CCO'] }, count: 5 }),
  disordered: () => ({ name: 'disorder', formulas: ['SiO2'], atoms: [24, 48], count: 4 }),
}
/** Those that begin with a crystal. */
export const OF_CRYSTALS = ['supercell', 'strained', 'defect', 'slab', 'adsorbate', 'boundary']

const crystals = (from?: string) => (from ? { files: [from] } : { elements: ['Cu'], prototypes: ['fcc'] })

export const form = (builder: string, from?: string) => href('/new/build', { settings: JSON.stringify({ builder: BUILDERS[builder]!(from) }) })
