/** Columns of the list of jobs. */
import { Columns, type Column } from '../lib/columns.svelte'
import { duration, moment, number, percent } from '../lib/format'
import type { JobRow } from '../lib/types'
import { text } from '../text'

const t = text.jobs
const COLUMNS: Column[] = [
  { id: 'id', title: t.id, sort: 'id', number: true }, { id: 'name', title: t.name, sort: 'name' },
  { id: 'task', title: t.task, sort: 'task' }, { id: 'owner', title: t.owner, sort: 'owner' }, { id: 'tags', title: t.tags },
  { id: 'privacy', title: t.privacy }, { id: 'cores', title: t.cores, sort: 'cores', number: true },
  { id: 'memory', title: t.memory, sort: 'memory', number: true },
  { id: 'priority', title: t.priority, sort: 'priority', number: true }, { id: 'queue', title: t.queue, sort: 'queue' },
  { id: 'created', title: t.created, sort: 'created' }, { id: 'started', title: t.start, sort: 'started' },
  { id: 'ended', title: t.end, sort: 'ended' }, { id: 'state', title: t.state, sort: 'state' },
  { id: 'progress', title: t.progress, sort: 'progress' }, { id: 'efficiency', title: t.efficiency, number: true },
  { id: 'waited', title: t.waited, number: true }, { id: 'ran', title: t.ran, number: true },
  { id: 'core_hours', title: t.coreHours, sort: 'core_seconds', number: true },
]
const AT_FIRST = ['id', 'name', 'privacy', 'cores', 'queue', 'started', 'ended', 'state', 'progress', 'efficiency', 'waited']

export const columns = new Columns('jobs', COLUMNS, AT_FIRST)

/** What stands in a column that is a word or a number. */
export function plain(job: JobRow, id: string): string | number {
  switch (id) {
    case 'privacy': return text.form[job.privacy as 'private']
    case 'cores': return `${job.cores}${job.gpus ? ` + ${job.gpus} GPU` : ''}`
    case 'memory': return number(job.memory, 3)
    case 'created': case 'started': case 'ended': return moment(job[id])
    case 'waited': case 'ran': return duration(job[id])
    case 'efficiency': return percent(job.efficiency)
    case 'core_hours': return number(job.core_seconds / 3600, 3)
    default: return job[id as 'id' | 'task' | 'queue' | 'priority']
  }
}
