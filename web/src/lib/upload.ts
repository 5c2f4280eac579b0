import { ApiError, api, piece } from './api'

interface Upload {
  id: string
  name: string
  size: number
  received: number
}

const PIECE = 8 << 20
const PATIENCE = 60

/**
 * Send a file in pieces; `told` hears which part of it has arrived, and whether the way is blocked just now.
 *
 * An upload of the same file that broke off goes on where it was. Returns the reference that settings take.
 */
export async function upload(file: File, told: (part: number, waiting: boolean) => void): Promise<string> {
  let state = await begun(file)
  let tries = 0
  while (state.received < file.size) {
    told(state.received / file.size, tries > 0)
    const next = file.slice(state.received, state.received + PIECE)
    try {
      state = await api.put<Upload>(`uploads/${piece(state.id)}?offset=${state.received}`, next, 'application/octet-stream')
      tries = 0
    } catch (reason) {
      const passing = reason instanceof ApiError && (reason.status === 0 || reason.status >= 500 || reason.status === 409)
      if (!passing || ++tries > PATIENCE) throw reason
      await new Promise((wake) => setTimeout(wake, 1000 * Math.min(tries, 10)))
      state = await api.get<Upload>(`uploads/${piece(state.id)}`).catch(() => state)
    }
  }
  return `upload:${state.id}`
}

/** One of this file that broke off in this browser, or a new one. */
async function begun(file: File): Promise<Upload> {
  const key = `rutile-upload ${file.name} ${file.size} ${file.lastModified}`
  const known = localStorage.getItem(key)
  const there = known ? (await api.get<Upload[]>('uploads')).find((one) => one.id === known) : undefined
  const one = there ?? (await api.post<Upload>('uploads', { name: file.name, size: file.size }))
  localStorage.setItem(key, one.id)
  return one
}
