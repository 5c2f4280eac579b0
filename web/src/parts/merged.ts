/** Curves that have axes of their own on one axis: null where a curve has no value. */
import type { Line } from './Curves.svelte'

export interface OwnLine {
  name: string
  x: number[]
  y: (number | null)[]
}

export function merged(lines: OwnLine[]): { x: number[]; lines: Line[] } {
  const x = [...new Set(lines.flatMap((line) => line.x))].sort((a, b) => a - b)
  const place = new Map(x.map((value, k) => [value, k]))
  return {
    x,
    lines: lines.map((line) => {
      const values: (number | null)[] = Array(x.length).fill(null)
      line.x.forEach((value, k) => (values[place.get(value)!] = line.y[k] ?? null))
      return { name: line.name, values }
    }),
  }
}
