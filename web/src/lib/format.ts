/** Numbers, times and sizes as people read them. */

export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return '–'
  if (seconds > 0 && seconds < 0.5) return `${Number(seconds.toPrecision(1))} s`
  const s = Math.max(0, Math.round(seconds))
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`
}

/** A moment: the time today, the day before, with the year where it is another one. */
export function moment(seconds: number | null | undefined): string {
  if (!seconds) return '–'
  const date = new Date(seconds * 1000)
  const time = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' })
  const now = new Date()
  if (date.toDateString() === now.toDateString()) return time
  return `${date.getFullYear() === now.getFullYear() ? day(seconds).slice(5) : day(seconds)} ${time}`
}

export function day(seconds: number | null | undefined): string {
  if (!seconds) return '–'
  const date = new Date(seconds * 1000)
  return [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((n) => String(n).padStart(2, '0')).join('-')
}

export function bytes(size: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let k = 0
  while (size >= 999.5 && k < units.length - 1) {
    size /= 1000
    k++
  }
  return `${k === 0 || size >= 99.5 ? Math.round(size) : size.toPrecision(2)} ${units[k]}`
}

export function percent(part: number | null | undefined): string {
  return part === null || part === undefined ? '–' : `${Math.round(100 * part)} %`
}

/** A number with at most so many digits that matter. */
export function number(value: number, digits = 5): string {
  if (!Number.isFinite(value)) return String(value)
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value)
  const size = Math.abs(value)
  return size >= 1e6 || size < 1e-4 ? value.toExponential(3) : String(Number(value.toPrecision(digits)))
}

/** Numbers beside each other, with as many digits as tell them apart. */
export function numbers(values: number[]): string[] {
  const sorted = [...values].sort((a, b) => a - b)
  const step = Math.min(...sorted.slice(1).map((v, k) => v - sorted[k]!).filter((d) => d > 0))
  const largest = Math.max(...values.map(Math.abs))
  const digits = Number.isFinite(step) && largest > 0 ? Math.ceil(Math.log10(largest / step)) + 1 : 4
  return values.map((v) => number(v, Math.min(15, Math.max(4, digits))))
}

/** A setting's key as words: batch_size is "Batch size", force_rmse "Force RMSE". */
export function words(key: string): string {
  const text = key.replaceAll('_', ' ').replaceAll('-', ' ').replace(/\b(mae|rmse)\b/g, (short) => short.toUpperCase())
  return text.charAt(0).toUpperCase() + text.slice(1)
}
