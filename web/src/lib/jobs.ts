/** What is done to jobs, from the list and from the page of one. */
import { api } from './api'
import { ENDED, type JobRow, type JobView } from './types'
import { fill, text } from '../text'

/** A job once it has ended; on the way the page hears how it is. */
export async function finished(job: JobView, told: (now: JobView) => void): Promise<JobView> {
  const PAUSE = 700
  let now = job
  while (!ENDED.includes(now.state)) {
    await new Promise((wake) => setTimeout(wake, PAUSE))
    now = await api.get<JobView>(`jobs/${job.id}`)
    told(now)
  }
  return now
}

/** Tasks whose jobs have a page of their own as searches. */
export const SEARCHES = ['search', 'search resume', 'adapt']

export type Action = 'cancel' | 'rerun' | 'delete'

export const may: Record<Action | 'download', (job: JobRow) => boolean> = {
  download: (job) => job.started !== null,
  cancel: (job) => job.mine && !ENDED.includes(job.state),
  rerun: (job) => ENDED.includes(job.state),
  delete: (job) => job.mine && ENDED.includes(job.state),
}

/** Where all that jobs wrote is, in one archive. */
export const zipOf = (ids: number[]) => (ids.length === 1 ? `api/jobs/${ids[0]}/zip` : `api/jobs/zip?${ids.map((id) => `ids=${id}`).join('&')}`)

/** Do it to all of them, after a question where nothing brings them back; what was refused is said. */
export async function act(action: Action, ids: number[]): Promise<{ done: number[]; told: string }> {
  if (action === 'delete' && !confirm(fill(text.jobs.sureDelete, { n: ids.length }))) return { done: [], told: '' }
  const answer = await api.post<{ done: number[]; problems: (string | { message: string })[] }>('jobs/actions', { action, ids })
  const told = answer.problems.map((one) => (typeof one === 'string' ? one : one.message)).join('; ')
  return { done: answer.done, told }
}
