import { ApiError } from './api'

/** Something that the server was asked for: its value, or why there is none. */
export class Loaded<T> {
  value = $state.raw<T>()
  error = $state('')
  private asked = 0
  private shown = 0

  /** Show the answer, unless that of a later question is shown already. */
  async load(promise: Promise<T>): Promise<void> {
    const mine = ++this.asked
    try {
      const value = await promise
      if (mine < this.shown) return
      this.value = value
      this.error = ''
    } catch (reason) {
      if (mine < this.shown) return
      this.error = told(reason)
    }
    this.shown = mine
  }
}

export function told(reason: unknown): string {
  return reason instanceof ApiError || reason instanceof Error ? reason.message : String(reason)
}

/**
 * Do something now and every so often while the page is looked at; for $effect, which ends it.
 *
 * The next time is counted from the end of the one before: a server that takes longer is not asked ever more.
 */
export function repeatedly(seconds: number, act: () => unknown): () => void {
  let timer: ReturnType<typeof setTimeout>
  let ended = false
  const again = (doing: unknown) => void Promise.resolve(doing).finally(() => {
    if (!ended) timer = setTimeout(() => again(document.visibilityState === 'visible' ? act() : undefined), seconds * 1000)
  })
  again(act())
  return () => {
    ended = true
    clearTimeout(timer)
  }
}
