/** A search that was stopped goes on: as a job of its own, from a copy of what the first one kept. */
import { api } from '../lib/api'
import type { JobFile, JobView } from '../lib/types'
import { text } from '../text'

const LOG = /^(?:(.+)\/)?(?:search|adapt)\.jsonl$/

/** Begin the job that goes on; its number. */
export async function goOn(job: JobView): Promise<number> {
  const files = await api.get<JobFile[]>(`jobs/${job.id}/files`)
  const folder = files.map((file) => LOG.exec(file.path)?.[1]).find(Boolean)
  if (!folder) throw new Error(text.searches.nothingKept)
  const wish = await api.get<Record<string, unknown>>(`jobs/${job.id}/clone`)
  const settings = job.task === 'search resume' ? { ...job.settings, folder: `job:${job.id}/${folder}` } : { ...job.settings, out: `job:${job.id}/${folder}` }
  return (await api.post<JobView>('jobs', { ...wish, task: job.task, settings })).id
}
