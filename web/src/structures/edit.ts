/** Structures changed by hand. */
import type { Frame } from '../viewer/frame'

const NO_LABELS = { energy: null, forces: null, stress: null, fmax: null }

/** Other elements, and without some atoms. */
export function changed(frame: Frame, symbols: string[], gone: boolean[]): Frame {
  const left = symbols.map((_, k) => k).filter((k) => !gone[k])
  return { ...frame, ...NO_LABELS, symbols: left.map((k) => symbols[k]!), positions: left.map((k) => frame.positions[k]!) }
}

/** So many times along each cell vector. */
export function repeated(frame: Frame, times: number[]): Frame {
  const [na, nb, nc] = times as [number, number, number]
  const range = (n: number) => Array.from({ length: n }, (_, k) => k)
  const steps = range(na).flatMap((i) => range(nb).flatMap((j) => range(nc).map((k) => [i, j, k])))
  const shift = (step: number[], axis: number) => step.reduce((sum, n, k) => sum + n * frame.cell[k]![axis]!, 0)
  return {
    ...frame, ...NO_LABELS,
    symbols: steps.flatMap(() => frame.symbols),
    positions: steps.flatMap((step) => frame.positions.map((xyz) => xyz.map((x, axis) => x + shift(step, axis)))),
    cell: frame.cell.map((vector, k) => vector.map((x) => x * times[k]!)),
  }
}
