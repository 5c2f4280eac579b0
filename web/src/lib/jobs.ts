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

export type Action = 'cancel' | 'rerun' | 'delete'

export const may: Record<Action, (job: JobRow) => boolean> = {
  cancel: (job) => job.mine && !ENDED.includes(job.state),
  rerun: (job) => ENDED.includes(job.state),
  delete: (job) => job.mine && ENDED.includes(job.state),
}

/** Do it to all of them, after a question where nothing brings them back; what was refused is said. */
export async function act(action: Action, ids: number[]): Promise<{ done: number[]; told: string }> {
  if (action === 'delete' && !confirm(fill(text.jobs.sureDelete, { n: ids.length }))) return { done: [], told: '' }
  const answer = await api.post<{ done: number[]; problems: (string | { message: string })[] }>('jobs/actions', { action, ids })
  const told = answer.problems.map((one) => (typeof one === 'string' ? one : one.message)).join('; ')
  return { done: answer.done, told }
}
