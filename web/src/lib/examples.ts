/** What an empty list offers in one click: something that works, made on the spot. */
import { api } from './api'
import { finished } from './jobs'
import type { JobView, Tree } from './types'

const PLACE = { priority: 90, cores: 1, memory: 3, wall_time: 600, tags: ['example'] }

/** Makes it and says where it is; `told` hears of the job on the way. */
export type Make = (told: (job: JobView) => void) => Promise<string>

const begun = (task: string, name: string, settings: Tree) => api.post<JobView>('jobs', { ...PLACE, task, name, settings })

/** A job that is done, or its reason as an error. */
async function done(job: JobView, told: (job: JobView) => void): Promise<JobView> {
  told(job)
  const now = await finished(job, told)
  if (now.state !== 'DONE') throw new Error(now.reason || now.state)
  return now
}

async function silicon(told: (job: JobView) => void): Promise<string> {
  const copied = await done(await begun('starter', 'silicon', { names: ['silicon'] }), told)
  return `job:${copied.id}/silicon.extxyz`
}

export const EXAMPLES: Record<'structures' | 'datasets' | 'models' | 'searches', Make> = {
  async structures(told) {
    const crystals = { elements: ['Ti', 'O'], prototypes: ['rutile'] }
    const builder = { name: 'bulk', crystals, rattle: [0, 0], strain: [0, 0], scale: [1, 1], count: 1 }
    const built = await done(await begun('build', 'rutile TiO2', { builder, out: 'rutile.extxyz' }), told)
    const kept = await api.post<{ id: number }>('structures', { name: 'rutile TiO2', file: `job:${built.id}/rutile.extxyz` })
    return `/structures/${kept.id}`
  },
  async datasets(told) {
    const about = { name: 'silicon', licence: 'CC0 1.0', source: 'rutile' }
    const kept = await api.post<{ id: number }>('datasets', { ...about, file: await silicon(told) })
    return `/datasets/${kept.id}`
  },
  async models(told) {
    const settings = { data: [await silicon(told)], epochs: 30, max_seconds: 25 }
    return `/jobs/${(await begun('train', 'silicon', settings)).id}`
  },
  async searches() {
    return `/searches/${(await begun('search', 'copper', { formula: 'Cu4', model: 'emt', relaxations: 60 })).id}`
  },
}
