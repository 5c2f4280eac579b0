/** Things of the platform by the names under which jobs read them: dataset:3, job:12/x.extxyz. */
import { api } from './api'
import type { JobFile } from './types'

/** Page of a thing; undefined where it has none. */
export function pageOfReference(reference: string): string | undefined {
  const pages: Record<string, string> = { job: 'jobs', structure: 'structures', dataset: 'datasets', model: 'models' }
  const found = /^(\w+):(\d+)/.exec(reference)
  return found && pages[found[1]!] ? `/${pages[found[1]!]}/${found[2]}` : undefined
}

/** Files of structures, by their names. */
const DRAWN = /\.(extxyz|xyz|cif|traj|vasp|poscar|xsf)$/i

/** Where the structures of a thing are (frames/{k} below it); undefined where they cannot be looked at. */
export async function framesOf(reference: string): Promise<{ base: string; query: string } | undefined> {
  const [, upload] = /^upload:([0-9a-f]{24})$/.exec(reference) ?? []
  if (upload) return DRAWN.test((await api.get<{ name: string }>(`uploads/${upload}`)).name) ? { base: `uploads/${upload}`, query: '' } : undefined
  const [, kind, number, version, path] = /^(\w+):(\d+)(?:@(\d+))?(?:\/(.*))?$/.exec(reference) ?? []
  if (kind === 'dataset') return { base: `datasets/${number}`, query: version ? `?version=${version}` : '' }
  if (kind === 'structure') return { base: `structures/${number}`, query: '' }
  if (kind !== 'job' || !path) return undefined
  const file = (await api.get<JobFile[]>(`jobs/${number}/files`)).find((one) => one.path === path)
  return file?.kind === 'structures' ? { base: `jobs/${number}/files/${file.id}`, query: '' } : undefined
}
