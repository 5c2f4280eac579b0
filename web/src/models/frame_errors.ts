/** Errors of single structures and values, as an evaluation writes them (frames.csv, parity.csv). */
import { api } from '../lib/api'
import { rowsOf } from '../lib/csv'
import { framesOf } from '../lib/references'
import type { JobFile, JobView } from '../lib/types'

/** What structures are sorted by: the worst come first. */
export const KINDS = ['energy', 'force', 'stress'] as const
export type Kind = (typeof KINDS)[number]

export interface FrameError {
  /** Of the row: what a click chooses. */
  key: number
  /** Name of the file as the job knew it, and number in it. */
  file: string
  frame: number
  formula: string
  group: string
  mode: string
  /** eV/atom, RMSE of forces (eV/Å) and of stress (GPa); NaN where there is no label. */
  errors: Record<Kind, number>
  /** Largest reference force (eV/Å). */
  force: number
  /** eV/atom. */
  energy: number
}

/** A value with its reference. */
export interface Pair {
  /** Row of the structure. */
  key: number
  x: number
  y: number
}

export interface Evaluated {
  job: JobView
  frames: FrameError[]
  pairs: Record<Kind, Pair[]>
}

const MOST_BYTES = 20_000_000

/** What a job wrote about single structures; undefined where it wrote nothing of that kind. */
export async function evaluated(number: number): Promise<Evaluated | undefined> {
  const files = await api.get<JobFile[]>(`jobs/${number}/files`)
  const table = async (name: string) => {
    const file = files.find((one) => one.path.split('/').pop() === name)
    return file && rowsOf(await beginning(`api/jobs/${number}/files/${file.id}/download`))
  }
  const rows = await table('frames.csv')
  if (!rows) return undefined
  const frames = framesIn(rows)
  const values = await table('parity.csv')
  return { job: await api.get<JobView>(`jobs/${number}`), frames, pairs: values ? pairsIn(values) : onlyEnergies(frames) }
}

/** A file, or as much of a very long one as can be looked at. */
async function beginning(address: string): Promise<string> {
  const reader = (await fetch(address)).body!.getReader()
  const decoder = new TextDecoder()
  let text = ''
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    text += decoder.decode(piece.value, { stream: true })
    if (text.length < MOST_BYTES) continue
    await reader.cancel()
    return text.slice(0, text.lastIndexOf('\n'))
  }
  return text
}

function framesIn([heads = [], ...rows]: string[][]): FrameError[] {
  const places = new Map(heads.map((name, k) => [name, k]))
  return rows.map((row, key): FrameError => {
    const cell = (name: string) => row[places.get(name) ?? -1] ?? ''
    const value = (name: string) => (cell(name) ? Number(cell(name)) : NaN)
    const [, file = '', frame = '0'] = /^(.*)#(\d+)$/.exec(row[0] ?? '') ?? []
    return {
      key, file, frame: Number(frame), formula: cell('formula'), group: cell('group'), mode: cell('mode'),
      errors: { energy: value('energy_error'), force: value('force_rmse'), stress: value('stress_rmse') },
      force: value('force'), energy: value('energy'),
    }
  })
}

const EV_PER_A3 = 160.2176634

function pairsIn([, ...rows]: string[][]): Record<Kind, Pair[]> {
  const pairs: Record<Kind, Pair[]> = { energy: [], force: [], stress: [] }
  for (const [kind, frame, , reference, predicted] of rows) {
    const unit = kind === 'stress' ? EV_PER_A3 : 1
    pairs[kind as Kind]?.push({ key: Number(frame), x: unit * Number(reference), y: unit * Number(predicted) })
  }
  return pairs
}

/** Of evaluations that wrote no single values. */
const onlyEnergies = (frames: FrameError[]) => ({
  energy: frames.map((one) => ({ key: one.key, x: one.energy, y: one.energy + one.errors.energy })), force: [], stress: [],
})

/** What was read under the name of a file. */
export function referenceOf(job: JobView, file: string): string {
  const name = file.split('/').pop()
  return job.inputs.find((one) => one.name === name)?.reference ?? ''
}

export const structuresOf = (job: JobView, one: FrameError) => framesOf(referenceOf(job, one.file))

/** Those with the largest errors of a kind. */
export function worst(frames: FrameError[], kind: Kind, most: number): FrameError[] {
  const known = frames.filter((one) => !Number.isNaN(one.errors[kind]))
  return known.sort((a, b) => Math.abs(b.errors[kind]) - Math.abs(a.errors[kind])).slice(0, most)
}
