/** Formation energies of two elements, and the lowest line below them. */
import type { Relaxed } from './types'
import { sizeOf } from './types'

export interface Mixed {
  one: Relaxed
  /** Part of the second element. */
  x: number
  /** Above the line between the lowest structures at both ends (eV/atom). */
  y: number
  /** Above the hull (eV/atom). */
  above: number
}

export interface Hull {
  elements: string[]
  points: Mixed[]
  corners: Mixed[]
}

/** The hull of structures of two elements in several proportions; undefined where there is none. */
export function hullOf(found: Relaxed[]): Hull | undefined {
  const elements = [...new Set(found.flatMap((one) => Object.keys(one.elements)))].sort()
  if (elements.length !== 2) return undefined
  const part = (one: Relaxed) => (one.elements[elements[1]!] ?? 0) / sizeOf(one)
  const sorted = found.map((one) => ({ one, x: part(one), y: one.energy, above: 0 })).sort((a, b) => a.x - b.x || a.y - b.y)
  const first = sorted[0]!
  const lastX = sorted.at(-1)!.x
  if (first.x === lastX) return undefined
  const last = sorted.find((p) => p.x === lastX)!
  const line = (x: number) => first.one.energy + ((last.one.energy - first.one.energy) * (x - first.x)) / (lastX - first.x)
  const points = sorted.map((p) => ({ ...p, y: p.y - line(p.x) }))
  const corners = lower(points)
  return { elements, corners, points: points.map((p) => ({ ...p, above: p.y - heightOf(corners, p.x) })) }
}

/** Corners of the lower hull of points that are sorted by x, then y. */
function lower(points: Mixed[]): Mixed[] {
  const out: Mixed[] = []
  for (const p of points.filter((one, k) => k === 0 || one.x !== points[k - 1]!.x)) {
    while (out.length > 1 && !turnsUp(out.at(-2)!, out.at(-1)!, p)) out.pop()
    out.push(p)
  }
  return out
}

const turnsUp = (a: Mixed, b: Mixed, c: Mixed) => (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x) > 0

function heightOf(corners: Mixed[], x: number): number {
  const k = Math.max(1, corners.findIndex((corner) => corner.x >= x))
  const [a, b] = [corners[k - 1]!, corners[k]!]
  return a.y + ((b.y - a.y) * (x - a.x)) / (b.x - a.x)
}
