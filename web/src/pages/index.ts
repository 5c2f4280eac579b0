/** Every page: its address, its title, and where its code is (loaded when it is first looked at). */
import type { Component } from 'svelte'
import { text } from '../text'

type Page = { default: Component<{ args: string[] }> | Component }

interface Found {
  title: string
  args: string[]
  /** Words of the query that the page reads once, when it is opened; it follows all others itself. */
  begins: string[]
  load: () => Promise<Page>
}

interface Known {
  title: string
  one?: string
  load: () => Promise<Page>
  loadOne?: () => Promise<Page>
  begins?: string[]
}

const PAGES: Record<string, Known> = {
  '': { title: text.nav.home, load: () => import('./Home.svelte') },
  new: {
    title: text.nav.make, load: () => import('./Tasks.svelte'), loadOne: () => import('./NewJob.svelte'),
    begins: ['clone', 'settings', 'tag', 'template'],
  },
  jobs: {
    title: text.nav.jobs, one: text.job.title, load: () => import('./Jobs.svelte'), loadOne: () => import('./Job.svelte'),
  },
  structures: {
    title: text.structures.title, one: text.structures.one, load: () => import('./Structures.svelte'),
    loadOne: () => import('./Structure.svelte'),
  },
  datasets: {
    title: text.datasets.title, one: text.datasets.one, load: () => import('./Datasets.svelte'),
    loadOne: () => import('./Dataset.svelte'),
  },
  models: {
    title: text.models.title, one: text.models.one, load: () => import('./Models.svelte'), loadOne: () => import('./Model.svelte'),
  },
  searches: {
    title: text.searches.title, one: text.searches.one, load: () => import('./Searches.svelte'), loadOne: () => import('./Search.svelte'),
  },
  compare: { title: text.jobs.compareTitle, load: () => import('./Compare.svelte') },
  compute: { title: text.nav.compute, load: () => import('./Compute.svelte') },
  admin: { title: text.nav.admin, load: () => import('./Admin.svelte') },
  shared: { title: text.share.title, load: () => import('./Home.svelte'), loadOne: () => import('./Shared.svelte') },
  api: { title: text.api.title, load: () => import('./Api.svelte') },
  account: { title: text.nav.account, load: () => import('./Account.svelte') },
}

export function pageOf(parts: string[]): Found | null {
  const [name = '', ...args] = parts
  const page = PAGES[name]
  const load = args.length ? page?.loadOne : page?.load
  if (!page || !load || args.length > 1) return null
  if (page.one && args.length && !/^\d{1,15}$/.test(args[0]!)) return null
  const title = args.length && name !== 'shared' ? `${page.one ?? page.title} ${args[0]}` : page.title
  return { title, args, load, begins: page.begins ?? [] }
}

/** What the top bar leads to. */
export const NAV = ['', 'jobs', 'new', 'structures', 'datasets', 'models', 'searches', 'compute'].map((name) => ({ path: `/${name}`, title: PAGES[name]!.title }))
