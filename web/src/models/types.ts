import type { Tree } from '../lib/types'

export const STAGES = ['draft', 'validated', 'production'] as const

export interface Metrics {
  set: string
  job: number | null
  values: Record<string, number>
}

export interface Model {
  id: number
  name: string
  owner: string
  mine: boolean
  privacy: string
  stage: (typeof STAGES)[number]
  description: string
  created: number
  bytes: number
  sha256: string
  elements: string[]
  card: Tree
  metrics: Metrics[]
  job_id: number | null
  parent_id: number | null
  datasets: { reference: string; sha256: string }[]
  children: number[]
}

/** Units of errors, by the beginning of their names. */
export function unitOf(quantity: string): string {
  return { energy: 'eV/atom', force: 'eV/Å', stress: 'eV/Å³', atoms: 'atoms/s' }[quantity.split('_')[0]!] ?? ''
}

/** The newest error of a kind, of the set that is said most for: test, then what was evaluated, then validation. */
export function bestKnown(model: Model, quantity: string): { value: number; set: string } | undefined {
  const order = (one: Metrics) => (one.set === 'test' ? 3 : one.job !== null && one.set.includes(':') ? 2 : one.set === 'valid' ? 1 : 0)
  const having = model.metrics.filter((one) => one.values[quantity] !== undefined).sort((a, b) => order(a) - order(b))
  const one = having.at(-1)
  return one && { value: one.values[quantity]!, set: one.set }
}
