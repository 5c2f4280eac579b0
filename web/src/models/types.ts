import type { Tree } from '../lib/types'
import { fill, text } from '../text'

export const STAGES = ['draft', 'validated', 'production'] as const

export interface Metrics {
  set: string
  job: number | null
  values: Record<string, number>
  /** What the speed was measured on; null: it was not noted. */
  device: string | null
  threads: number | null
}

export interface Model {
  id: number
  name: string
  /** Among the models of its owner that have its name. */
  version: number
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
  /** Of what a list shows the measurement that says most. */
  known: Partial<Record<'energy_rmse' | 'force_rmse' | 'speed', Metrics>>
  job_id: number | null
  parent_id: number | null
  datasets: { reference: string; sha256: string }[]
  children: number[]
}

/** Units of errors, by the beginning of their names. */
export function unitOf(quantity: string): string {
  return { energy: 'eV/atom', force: 'eV/Å', stress: 'eV/Å³', atoms: 'atoms/s' }[quantity.split('_')[0]!] ?? ''
}

/** On what a speed was measured; '': none was. */
export function whereMeasured(one: Metrics): string {
  if (one.values.atoms_per_second === undefined) return ''
  if (!one.device) return text.models.notNoted
  return one.threads ? fill(text.models.withThreads, { device: one.device, n: one.threads }) : one.device
}
