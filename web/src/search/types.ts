import type { State } from '../lib/types'

export interface Found {
  number: number
  /** When it was last relaxed, counted from 1. */
  order: number
  formula: string
  elements: Record<string, number>
  /** eV/atom; null: it failed. */
  energy: number | null
  operator: string
  parents: number[]
  failure: string
  /** Version of the potential (adaptive). */
  cycle: number | null
}

export interface HullOfMany {
  elements: string[]
  /** The lowest structure of each composition. */
  numbers: number[]
  parts: number[][]
  above: number[]
  /** Corners: places in numbers. */
  facets: number[][]
}

export interface Label {
  number: number
  at: number
  seconds: number | null
  why: string
  spread: number | null
  error: number | null
  energy: number | null
  failure: string
}

export interface Search {
  job: number
  task: string
  state: State
  made: number
  done: number
  failed: number
  operators: Record<string, number>
  found: Found[]
  labels: Label[]
  trainings: number
  work: Record<string, { at: number; busy: number }[]>
  /** Structures and labels over the same time (adaptive). */
  saved: { at: number; structures: number; labels: number }[]
  hull: HullOfMany | null
  hard: Hard | null
}

/** Weights of the structures that the newest potential learned, the hardest first. */
export interface Hard {
  file: string
  weights: number[]
  hardest: { structure: string; loss: number; weight: number }[]
}

export type Relaxed = Found & { energy: number }

/** Those that were relaxed, lowest first. */
export const relaxed = (search: Search) => search.found.filter((one): one is Relaxed => one.energy !== null)

export const sizeOf = (one: Found) => Object.values(one.elements).reduce((a, b) => a + b, 0)
