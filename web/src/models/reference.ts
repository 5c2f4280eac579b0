/** Properties beside a reference, as the server sends them, and tables of typed values. */
import type { Figure } from '../job/JobFigures.svelte'
import { rowsOf } from '../lib/csv'

export interface TypedValue {
  structure: string
  property: string
  value: number
  unit: string
  source: string
}

export interface Beside {
  /** job:12, dataset:3, typed, or empty. */
  reference: string
  choices: { reference: string; name: string; structures: number }[]
  rows: { structure: string; formula: string; property: string; unit: string; value: number; reference: number; percent: number | null; source: string }[]
  figures: Figure[]
  /** What typed values can be of, and properties with the units that they can have. */
  structures: string[]
  properties: Record<string, string[]>
  typed: TypedValue[]
}

const COLUMNS = ['structure', 'property', 'value', 'unit', 'source'] as const

/** A table of values: JSON, or CSV with the names of its columns in the first row. */
export function typedValues(file: string): TypedValue[] {
  const [heads = [], ...rows] = rowsOf(file)
  const records: Record<string, unknown>[] = file.trimStart().startsWith('[')
    ? JSON.parse(file)
    : rows.map((row) => Object.fromEntries(heads.map((head, k) => [head.trim(), row[k] ?? ''])))
  return records.map((record, k) => {
    const missing = COLUMNS.filter((name) => name !== 'unit' && String(record[name] ?? '').trim() === '')
    const value = Number(record.value)
    if (missing.length || !Number.isFinite(value)) throw new Error(`${k + 1}: ${missing.join(', ') || `value = ${record.value}`}`)
    const said = (name: (typeof COLUMNS)[number]) => String(record[name] ?? '').trim()
    return { structure: said('structure'), property: said('property'), value, unit: said('unit'), source: said('source') }
  })
}
