import { piece } from '../lib/api'
import { href } from '../lib/router.svelte'
import type { Tree } from '../lib/types'

/** Settings of a task that somebody keeps under a name. */
export interface Template {
  id: number
  name: string
  task: string
  settings: Tree
  owner: string
  mine: boolean
  privacy: string
  /** So many jobs began with it. */
  jobs: number
}

/** The form of its task, filled from it. */
export const filled = (task: string, id: number) => href(`/new/${piece(task)}`, { template: String(id) })
