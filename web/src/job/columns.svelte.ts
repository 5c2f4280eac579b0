/** Columns of the list of jobs: which are shown, and in which order, as this browser remembers. */
import { text } from '../text'

export interface Column {
  id: string
  title: string
  /** By which the server sorts. */
  sort?: string
  number?: boolean
}

const t = text.jobs
export const COLUMNS: Column[] = [
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
const KEY = 'rutile-jobs-columns'

class Columns {
  private ids = $state.raw<string[]>(kept())
  shown = $derived(this.ids.map((id) => COLUMNS.find((column) => column.id === id)!))
  hidden = $derived(COLUMNS.filter((column) => !this.ids.includes(column.id)))

  /** Show or hide; the last one stays. */
  turn(id: string) {
    if (!this.ids.includes(id)) this.keep([...this.ids, id])
    else if (this.ids.length > 1) this.keep(this.ids.filter((one) => one !== id))
  }

  /** One place to the left (-1) or to the right (1). */
  move(id: string, by: number) {
    const to = this.ids.indexOf(id) + by
    if (to < 0 || to >= this.ids.length) return
    const others = this.ids.filter((one) => one !== id)
    this.keep([...others.slice(0, to), id, ...others.slice(to)])
  }

  reset() {
    this.keep(AT_FIRST)
  }

  private keep(ids: string[]) {
    this.ids = ids
    localStorage.setItem(KEY, JSON.stringify(ids))
  }
}

function kept(): string[] {
  try {
    const ids: string[] = JSON.parse(localStorage.getItem(KEY) ?? '[]')
    const known = ids.filter((id) => COLUMNS.some((column) => column.id === id))
    return known.length ? known : AT_FIRST
  } catch {
    return AT_FIRST
  }
}

export const columns = new Columns()
