/** The guided examples of the home page: each is a filled-in form, and may use what an earlier one made. */
import { api } from './api'
import { href } from './router.svelte'
import type { JobPage, JobRow, Tree } from './types'
import { text } from '../text'

export interface Step {
  task: string
  tag: string
  title: string
  about: string
  settings: Tree
  /** Settings that take a file of an earlier step's job. */
  uses: { setting: string; step: number; path: string; list?: boolean }[]
}

const t = text.tour

export const TOUR: Step[] = [
  {
    task: 'starter', tag: 'first-steps-1', title: t.data, about: t.dataText, settings: { names: ['silicon'] }, uses: [],
  },
  {
    task: 'train', tag: 'first-steps-2', title: t.train, about: t.trainText,
    settings: { epochs: 30, max_seconds: 25 },
    uses: [{ setting: 'data', step: 0, path: 'silicon.extxyz', list: true }],
  },
  {
    task: 'evaluate', tag: 'first-steps-3', title: t.evaluate, about: t.evaluateText, settings: {},
    uses: [
      { setting: 'data', step: 0, path: 'silicon.extxyz', list: true },
      { setting: 'model', step: 1, path: 'run/model.rutile' },
    ],
  },
  {
    task: 'build', tag: 'first-steps-4', title: t.build, about: t.buildText,
    settings: {
      out: 'silicon.extxyz',
      builder: { name: 'bulk', count: 3, crystals: { elements: ['Si'], prototypes: ['diamond'] } },
    },
    uses: [],
  },
  {
    task: 'relax', tag: 'first-steps-5', title: t.relax, about: t.relaxText, settings: { cell: 'full', fmax: 0.05 },
    uses: [
      { setting: 'structures', step: 3, path: 'silicon.extxyz', list: true },
      { setting: 'model', step: 1, path: 'run/model.rutile' },
    ],
  },
]

/** The newest finished job of each step; undefined where there is none. */
export async function walked(): Promise<(JobRow | undefined)[]> {
  const pages = await Promise.all(
    TOUR.map((step) => api.get<JobPage>(`jobs?size=1&owner=me&state=DONE&tag=${step.tag}`)),
  )
  return pages.map((page) => page.items[0])
}

/** The earliest step that another one uses and that is not done; undefined where there is none. */
export function missing(step: Step, done: (JobRow | undefined)[]): number | undefined {
  return step.uses.map((use) => use.step).sort().find((earlier) => !done[earlier])
}

/** Address of the form of a step, filled in. */
export function formOf(step: Step, done: (JobRow | undefined)[]): string {
  return href(`/new/${step.task}`, { settings: JSON.stringify(prepared(step, done)), tag: step.tag })
}

/** The settings of a step with the files of earlier ones in their places. */
function prepared(step: Step, done: (JobRow | undefined)[]): Tree {
  const settings = structuredClone(step.settings)
  for (const { setting, step: earlier, path, list } of step.uses) {
    const reference = `job:${done[earlier]!.id}/${path}`
    settings[setting] = list ? [reference] : reference
  }
  return settings
}
