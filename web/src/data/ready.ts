import { api } from '../lib/api'
import type { Dataset } from './types'

const PAUSE = 500

/** A data set once it has been read. */
export async function ready(id: number): Promise<Dataset> {
  for (;;) {
    const now = await api.get<Dataset>(`datasets/${id}`)
    if (now.versions.at(-1)?.state !== 'reading') return now
    await new Promise((wake) => setTimeout(wake, PAUSE))
  }
}
