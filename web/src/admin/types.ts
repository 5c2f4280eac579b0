export interface Quotas {
  core_hours: number | null
  gpu_hours: number | null
  disk_gb: number | null
  cores_percent: number | null
}

export const QUOTAS = ['core_hours', 'gpu_hours', 'disk_gb', 'cores_percent'] as const
/** Limits of nobody. */
export const NONE: Quotas = { core_hours: null, gpu_hours: null, disk_gb: null, cores_percent: null }
export const ROLES = ['user', 'viewer', 'admin'] as const

export interface Account extends Quotas {
  id: number
  name: string
  full_name: string
  role: (typeof ROLES)[number]
  group: string | null
  created: number
  expires: number | null
  disabled: boolean
  has_password: boolean
  invited: string | null
  sign_on: string | null
  running_jobs: number | null
  priority: number
  unix_account: string | null
  seen: number | null
}

export interface Group extends Quotas {
  id: number
  name: string
  members: number
}

export interface UseRow {
  user: string
  group: string | null
  jobs: number
  failed: number
  core_hours: number
  cpu_hours: number
  gpu_hours: number
  disk_gb: number
}

export interface Done {
  time: number
  user: string
  action: string
  thing: string
  address: string
  before: Record<string, unknown>
  after: Record<string, unknown>
}

export interface News {
  id: number
  text: string
  level: 'info' | 'warning'
  created: number
  until: number | null
}
