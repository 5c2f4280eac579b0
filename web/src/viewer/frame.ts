/** A structure as the server sends it, and as the 3-D viewer wants it. */
import type { Crystal, Molecule, Site } from 'matterviz/structure'

export interface Frame {
  number: number
  frames: number
  formula: string
  symbols: string[]
  positions: number[][]
  cell: number[][]
  pbc: boolean[]
  energy: number | null
  forces: number[][] | null
  stress: number[][] | null
  fmax: number | null
}

export interface Track {
  frames: number
  energy_per_atom: (number | null)[]
  fmax: (number | null)[]
}

type Vector = [number, number, number]
type Matrix = [Vector, Vector, Vector]

const dot = (a: Vector, b: Vector) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
const cross = (a: Vector, b: Vector): Vector => [
  a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0],
]
const angle = (a: Vector, b: Vector) => (Math.acos(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))) * 180) / Math.PI

export function volume(cell: number[][]): number {
  const [a, b, c] = cell as Matrix
  return Math.abs(dot(a, cross(b, c)))
}

/** With a cell a crystal, without one a molecule; forces are arrows where there are any. */
export function drawable(frame: Frame): Crystal | Molecule {
  const size = volume(frame.cell)
  const [a, b, c] = frame.cell as Matrix
  const sides: [Vector, Vector, Vector] = [cross(b, c), cross(c, a), cross(a, b)]
  const signed = dot(a, sides[0]) || 1
  const sites = frame.symbols.map((symbol, k): Site => {
    const xyz = frame.positions[k] as Vector
    const abc = sides.map((side) => (size > 0 ? dot(xyz, side) / signed : 0)) as Vector
    const force = frame.forces?.[k]
    return {
      species: [{ element: symbol as Site['species'][0]['element'], occu: 1, oxidation_state: 0 }],
      xyz, abc, label: symbol, properties: force ? { force } : {},
    }
  })
  if (size === 0 || !frame.pbc.some(Boolean)) return { sites }
  const matrix: Matrix = [a, b, c]
  return { sites, lattice: { matrix, pbc: frame.pbc as [boolean, boolean, boolean], volume: size, ...lattice(frame) } }
}

/** Edges (Å) and angles (degrees) of the cell. */
export function lattice(frame: Frame) {
  const [a, b, c] = frame.cell as Matrix
  return { a: Math.hypot(...a), b: Math.hypot(...b), c: Math.hypot(...c), alpha: angle(b, c), beta: angle(a, c), gamma: angle(a, b) }
}
