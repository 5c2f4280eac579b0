import type { State } from '../lib/types'

export interface Found {
  number: number
  formula: string
  elements: Record<string, number>
  /** eV/atom; null: it failed. */
  energy: number | null
  operator: string
  parents: number[]
  failure: string
}

export interface Label {
  number: number
  at: number
  seconds: number | null
  why: string
  spread: number | null
  error: number | null
}

export interface Search {
  job: number
  task: string
  state: State
  made: number
  done: number
  failed: number
  operators: Record<string, number>
  best: { done: number; energy: number }[]
  found: Found[]
  labels: Label[]
  trainings: number
}

export type Relaxed = Found & { energy: number }

/** Those that were relaxed, lowest first. */
export const relaxed = (search: Search) => search.found.filter((one): one is Relaxed => one.energy !== null)

export const sizeOf = (one: Found) => Object.values(one.elements).reduce((a, b) => a + b, 0)
