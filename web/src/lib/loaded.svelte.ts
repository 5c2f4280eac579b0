import { ApiError } from './api'

/** Something that the server was asked for: its value, or why there is none. */
export class Loaded<T> {
  value = $state.raw<T>()
  error = $state('')
  private latest = 0

  async load(promise: Promise<T>): Promise<void> {
    const mine = ++this.latest
    try {
      const value = await promise
      if (mine !== this.latest) return
      this.value = value
      this.error = ''
    } catch (reason) {
      if (mine === this.latest) this.error = told(reason)
    }
  }
}

export function told(reason: unknown): string {
  return reason instanceof ApiError || reason instanceof Error ? reason.message : String(reason)
}

/** Do something now and every so often while the page is looked at; for $effect, which ends it. */
export function repeatedly(seconds: number, act: () => void): () => void {
  act()
  const timer = setInterval(() => document.visibilityState === 'visible' && act(), seconds * 1000)
  return () => clearInterval(timer)
}
