/** All that a list of the server holds, as a file. */
import { api } from './api'

const SIZE = 200
type Thing = Record<string, unknown>

/** Fetch every page and save what came, as it is (JSON) or as a table (CSV) whose cells hold JSON where they are no text. */
export async function saveAll(path: string, query: Record<string, string>, format: 'csv' | 'json') {
  const things: Thing[] = []
  for (let page = 1, total = 1; things.length < total; page++) {
    const words = new URLSearchParams({ ...query, page: String(page), size: String(SIZE) })
    const found = await api.get<{ items: Thing[]; total: number }>(`${path}?${words}`)
    if (!found.items.length) break
    things.push(...found.items)
    total = found.total
  }
  const written = format === 'json' ? JSON.stringify(things, null, 1) : table(things)
  const link = document.createElement('a')
  link.href = URL.createObjectURL(new Blob([written], { type: format === 'json' ? 'application/json' : 'text/csv' }))
  link.download = `${path}.${format}`
  link.click()
  URL.revokeObjectURL(link.href)
}

function table(things: Thing[]): string {
  const columns = [...new Set(things.flatMap((one) => Object.keys(one)))]
  const rows = [columns, ...things.map((one) => columns.map((column) => one[column]))]
  return rows.map((row) => `${row.map(cell).join(',')}\r\n`).join('')
}

/** A cell; what a spreadsheet would take for a formula begins with an apostrophe. */
function cell(value: unknown): string {
  if (value === null || value === undefined) return ''
  const plain = typeof value === 'object' ? JSON.stringify(value) : String(value)
  const safe = typeof value === 'string' && /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}
