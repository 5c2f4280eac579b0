import { api, piece } from './api'

interface Upload {
  id: string
  received: number
}

const PIECE = 8 << 20

/** Send a file in pieces; `told` hears which part of it has arrived. Returns the reference that settings take. */
export async function upload(file: File, told: (part: number) => void): Promise<string> {
  let state = await api.post<Upload>('uploads', { name: file.name, size: file.size })
  while (state.received < file.size) {
    const next = file.slice(state.received, state.received + PIECE)
    state = await api.put<Upload>(`uploads/${piece(state.id)}?offset=${state.received}`, next, 'application/octet-stream')
    told(state.received / file.size)
  }
  return `upload:${state.id}`
}
