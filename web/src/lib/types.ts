/** What the server answers; docs/platform.md and /api/openapi.json say what each means. */
import type { Problem } from './api'

export interface User {
  id: number
  name: string
  full_name: string
  role: 'admin' | 'user' | 'viewer'
  group: string | null
  scopes: string[]
  has_password: boolean
}

export interface SessionView {
  user: User
  csrf: string
  local: boolean
  version: string
  /** Whether this account may open notebooks. */
  notebooks: boolean
  /** Whether a cluster runs jobs under the Unix accounts of their users. */
  unix_accounts: boolean
}

export type State = 'QUEUED' | 'HELD' | 'STARTING' | 'RUNNING' | 'DONE' | 'FAIL' | 'CANCEL'
export const STATES: State[] = ['QUEUED', 'HELD', 'STARTING', 'RUNNING', 'DONE', 'FAIL', 'CANCEL']
export const ENDED: State[] = ['DONE', 'FAIL', 'CANCEL']

export interface JobRow {
  id: number
  name: string
  task: string
  state: State
  reason: string
  privacy: string
  owner: string
  mine: boolean
  queue: string
  cores: number
  gpus: number
  memory: number
  priority: number
  tags: string[]
  created: number
  started: number | null
  ended: number | null
  waited: number
  ran: number | null
  progress: number | null
  doing: string
  efficiency: number | null
  exit_code: number | null
  parent_id: number | null
  children: number
  core_seconds: number
}

export interface JobView extends JobRow {
  settings: Tree
  command: string
  yaml: string
  python: string
  client: string
  inputs: { setting: string; reference: string; name: string; sha256: string }[]
  result: Tree | null
  /** Of values in the result, by dotted names. */
  units: Record<string, string>
  hint: string
  native_id: string
  unix_account: string | null
  wall_time: number | null
  cpu_seconds: number
  gpu_seconds: number
  peak_memory: number
  bytes: number
  cloned_from: number | null
  key: string
  version: string
  made_with: Record<string, string>
}

export interface JobPage {
  items: JobRow[]
  total: number
  page: number
  size: number
  counts: Partial<Record<State, number>>
}

export interface JobFile {
  id: string
  path: string
  folder: boolean
  size: number
  changed: number
  kind: 'folder' | 'structures' | 'table' | 'text' | 'picture' | 'page' | 'model' | 'data'
  reference: string
}

export interface Preview {
  path: string
  kind: JobFile['kind']
  text: string
  whole: boolean
  size: number
}

export interface LogPiece {
  text: string
  offset: number
  next: number
  size: number
}

export interface Hit {
  line: number
  offset: number
  text: string
  level: '' | 'warning' | 'error'
}

/** Lines of a log that were searched for; `next` and `line` say where to go on. */
export interface Hits {
  hits: Hit[]
  found: number
  more: boolean
  next: number
  line: number
  size: number
}

export interface Series {
  rows: number
  index: number[]
  columns: Record<string, (number | null)[]>
  /** Where columns are means of many rows: the smallest and largest of each. */
  low?: Record<string, (number | null)[]>
  high?: Record<string, (number | null)[]>
}

export interface TaskRow {
  name: string
  summary: string
  group: string
}

export interface TaskView extends TaskRow {
  text: string
  positional: string | null
  examples: string[]
  essential: string[]
}

export interface Check {
  ok: boolean
  problems: Problem[]
  warnings: string[]
  settings: Tree | null
  /** Defaults that follow from what is given. */
  suited: Tree
  command: string
  yaml: string
  python: string
  client: string
  same: number | null
  expected: { jobs: number; seconds: number; longest: number; memory: number } | null
  /** Seconds until it begins (null: unknown), and hours that it costs and that are left of a quota (null: no quota). */
  estimate: Record<'wait' | 'core_hours' | 'gpu_hours' | 'core_hours_left' | 'gpu_hours_left', number | null>
}

export interface Queue {
  name: string
  kind: string
  cores: number
  memory: number | null
  gpus: number
  cores_used: number
  memory_used: number
  gpus_used: number
  working: number
  waiting: number
  wait: number | null
  /** Of a job of one core now (s); 0: none, null: unknown. */
  expected: number | null
}

export interface Compute {
  queues: Queue[]
  users: { owner: string; jobs: number; cores: number; gpus: number }[]
  load: number
  cpu_percent: number
  memory_percent: number
  disk_free: number
}

export interface Use {
  core_hours: number
  gpu_hours: number
  disk_gb: number
  /** The same by kind (GB). */
  disk: Record<'jobs' | 'uploads' | 'datasets' | 'models' | 'structures', number>
  core_hours_limit: number | null
  left: Record<string, number>
  gpu_hours_limit: number | null
  disk_gb_limit: number | null
  cores_percent: number | null
}

export interface Token {
  id: number
  name: string
  scopes: string[]
  created: number
  expires: number | null
  used: number | null
}

/** Settings and results: whatever JSON holds. */
export type Tree = any
