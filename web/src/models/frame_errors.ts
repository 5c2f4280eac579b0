/** Errors of single structures, as an evaluation writes them (frames.csv). */
import { api } from '../lib/api'
import { rowsOf } from '../lib/csv'
import { framesOf } from '../lib/references'
import type { JobFile, JobView } from '../lib/types'

export interface FrameError {
  /** Of the row: what a click chooses. */
  key: number
  /** Name of the file as the job knew it, and number in it. */
  file: string
  frame: number
  formula: string
  energy: number
  energyError: number
  force: number
  forceRmse: number
}

export interface Evaluated {
  job: JobView
  errors: FrameError[]
}

/** What a job wrote about single structures; undefined where it wrote nothing of that kind. */
export async function evaluated(number: number): Promise<Evaluated | undefined> {
  const files = await api.get<JobFile[]>(`jobs/${number}/files`)
  const table = files.find((one) => one.path.endsWith('frames.csv'))
  if (!table) return undefined
  const answer = await fetch(`api/jobs/${number}/files/${table.id}/download`)
  const [heads = [], ...rows] = rowsOf(await answer.text())
  const value = (row: string[], name: string) => {
    const cell = row[heads.indexOf(name)]
    return cell ? Number(cell) : NaN
  }
  const errors = rows.map((row, key): FrameError => {
    const [, file = '', frame = '0'] = /^(.*)#(\d+)$/.exec(row[0] ?? '') ?? []
    return {
      key, file, frame: Number(frame), formula: row[heads.indexOf('formula')] ?? '', energy: value(row, 'energy'),
      energyError: value(row, 'energy_error'), force: value(row, 'force'), forceRmse: value(row, 'force_rmse'),
    }
  })
  return { job: await api.get<JobView>(`jobs/${number}`), errors }
}

/** What was read under the name of a file. */
export function referenceOf(job: JobView, file: string): string {
  const name = file.split('/').pop()
  return job.inputs.find((one) => one.name === name)?.reference ?? ''
}

export const structuresOf = (job: JobView, one: FrameError) => framesOf(referenceOf(job, one.file))

/** Not more than can be drawn: the worst, and the others evenly. */
export function thinned(errors: FrameError[], most = 4000): FrameError[] {
  if (errors.length <= most) return errors
  const step = Math.ceil(errors.length / most)
  return [...worst(errors, 200), ...errors.filter((_, k) => k % step === 0)]
}

export function worst(errors: FrameError[], most: number): FrameError[] {
  const score = (one: FrameError) => (Number.isNaN(one.forceRmse) ? Math.abs(one.energyError) : one.forceRmse)
  return [...errors].sort((a, b) => score(b) - score(a)).slice(0, most)
}
