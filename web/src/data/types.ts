export interface Version {
  number: number
  sha256: string
  file: string
  state: 'reading' | 'ready' | 'refused'
  reason: string
  created: number
  bytes: number
  frames: number
  atoms: number
  elements: Record<string, number>
  labels: Record<string, number>
  checks: { name: string; text: string; frames: number }[]
  groups: Record<string, number>
  modes: Record<string, number>
}

export interface Dataset {
  id: number
  name: string
  owner: string
  mine: boolean
  privacy: string
  description: string
  licence: string
  source: string
  created: number
  versions: Version[]
}

export const COLUMNS = ['energy_per_atom', 'fmax', 'atoms', 'volume_per_atom', 'pressure', 'nearest', 'net_force'] as const
export type Column = (typeof COLUMNS)[number]

/** Which structures of a data set. */
export interface Selection {
  /** Of this version; null: the newest. */
  version: number | null
  /** Those that a check finds; '': all. */
  check: string
  /** Of this kind, of this calc mode; null: of any. */
  group: string | null
  mode: string | null
  elements: string[]
  only: boolean
  column: Column
  low: number | null
  high: number | null
}

export const EVERYTHING: Selection = { version: null, check: '', group: null, mode: null, elements: [], only: false, column: 'energy_per_atom', low: null, high: null }

/** Written behind the names of columns. */
export const UNITS: Record<Column, string> = {
  energy_per_atom: ' (eV/atom)', fmax: ' (eV/Å)', atoms: '', volume_per_atom: ' (Å³/atom)', pressure: ' (GPa)', nearest: ' (Å)', net_force: ' (eV/Å)',
}

/** A selection as the server takes it; without limits the column says nothing. */
export function asked({ version, check, group, mode, elements, only, column, low, high }: Selection): Record<string, string | number | boolean> {
  const range = low === null && high === null ? {} : { column, ...(low === null ? {} : { low }), ...(high === null ? {} : { high }) }
  const named = { ...(version === null ? {} : { version }), ...(check ? { check } : {}), ...(group === null ? {} : { group }), ...(mode === null ? {} : { mode }) }
  return { ...named, ...(elements.length ? { elements: elements.join(','), only } : {}), ...range }
}

export function asQuery(wish: Record<string, string | number | boolean>): string {
  return new URLSearchParams(Object.entries(wish).map(([key, value]) => [key, String(value)])).toString()
}

/** A set of labelled structures that anybody may have. */
export interface Resource {
  name: string
  /** Whether it comes with rutile. */
  comes: boolean
  what: string
  /** None: most of the periodic table. */
  elements: string[]
  method: string
  frames: string
  licence: string
  doi: string
  files: string
  command: string
}
