/** Places of the marks of an axis. */

const NICE = [1, 2, 5, 10]

export interface Axis {
  low: number
  high: number
  ticks: number[]
  /** Where a value is: 0 at the beginning, 1 at the end. */
  at: (value: number) => number
}

/** An axis over all values, with a little room; a logarithmic one leaves out what it cannot show. */
export function axisOf(values: number[], log: boolean, marks = 6): Axis {
  const scale = log ? Math.log10 : (v: number) => v
  const fit = values.filter((v) => Number.isFinite(v) && (!log || v > 0)).map(scale)
  let low = fit.reduce((a, b) => Math.min(a, b), Infinity)
  let high = fit.reduce((a, b) => Math.max(a, b), -Infinity)
  if (!fit.length) [low, high] = [0, 1]
  const room = (high - low || Math.abs(low) || 1) * 0.04
  low -= room
  high += room
  const least = !log && fit.every(Number.isInteger) ? 1 : 0
  const ticks = log && high - low > 1 ? decades(low, high) : steps(low, high, marks, least).map((v) => (log ? 10 ** v : v))
  return { low, high, ticks, at: (value) => (scale(value) - low) / (high - low) }
}

/** Even marks; of whole numbers (`least` is 1) none lie between them. */
function steps(low: number, high: number, marks: number, least: number): number[] {
  const rough = (high - low) / marks
  const size = 10 ** Math.floor(Math.log10(rough))
  const step = Math.max(least, size * NICE.find((n) => n * size >= rough)!)
  const first = Math.ceil(low / step)
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, k) => Number(((first + k) * step).toPrecision(12)))
}

function decades(low: number, high: number): number[] {
  const first = Math.ceil(low)
  return Array.from({ length: Math.floor(high) - first + 1 }, (_, k) => 10 ** (first + k))
}
