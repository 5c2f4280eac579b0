/** Distances and angles of atoms, between their nearest images. */
import { volume, type Frame } from './frame'

type Vector = [number, number, number]
/** Images that are tried on each side of the one that rounding finds: enough for cells that are very oblique. */
const NEAR = [-2, -1, 0, 1, 2]

const minus = (a: number[], b: number[]) => a.map((x, k) => x - b[k]!) as Vector
const dot = (a: Vector, b: Vector) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
const cross = (a: Vector, b: Vector): Vector => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]

/** From one atom to the nearest image of another (Å); of an atom to itself to its own nearest image, if it has any. */
export function nearest(frame: Frame, from: number, to: number): Vector | null {
  const apart = minus(frame.positions[to]!, frame.positions[from]!)
  const [a, b, c] = frame.cell as [Vector, Vector, Vector]
  const size = dot(a, cross(b, c))
  if (volume(frame.cell) === 0 || !frame.pbc.some(Boolean)) return from === to ? null : apart
  const shifts = [cross(b, c), cross(c, a), cross(a, b)].map((side, k) => {
    const whole = -Math.round(dot(apart, side) / size)
    return frame.pbc[k] ? NEAR.map((step) => whole + step) : [0]
  })
  let best: Vector | null = null
  for (const i of shifts[0]!) for (const j of shifts[1]!) for (const k of shifts[2]!) {
    if (from === to && i === 0 && j === 0 && k === 0) continue
    const there = apart.map((x, n) => x + i * a[n]! + j * b[n]! + k * c[n]!) as Vector
    if (!best || dot(there, there) < dot(best, best)) best = there
  }
  return best
}

export const length = (a: Vector) => Math.hypot(...a)

/** Angle (degrees) at the middle one of three atoms; null where two lie on each other. */
export function angle(frame: Frame, [first, middle, last]: number[]): number | null {
  const [u, v] = [nearest(frame, middle!, first!), nearest(frame, middle!, last!)]
  if (!u || !v || !length(u) || !length(v)) return null
  return (Math.acos(Math.max(-1, Math.min(1, dot(u, v) / length(u) / length(v)))) * 180) / Math.PI
}
