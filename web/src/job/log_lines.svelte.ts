import { api, piece } from '../lib/api'
import { told } from '../lib/loaded.svelte'
import type { Hit, Hits } from '../lib/types'

export type Wanted = 'all' | 'warning' | 'error'
/** Lines that are drawn. */
const SHOWN = 1000

/** The last lines of a log that tell of errors and hold a text: the server looks for them, and goes on where the log grows. */
export class LogLines {
  hits = $state.raw<Hit[]>([])
  /** Lines that fit, in all that was looked through. */
  found = $state(0)
  error = $state('')
  /** How much of the log was looked through, from 0 to 1. */
  done = $state(0)
  private offset = 0
  private line = 1
  private over = false

  constructor(private readonly id: number, private readonly level: Wanted, private readonly text: string) {}

  /** Look through all that has come. */
  async goOn(): Promise<void> {
    try {
      while (!this.over && (await this.next()));
      this.error = ''
    } catch (reason) {
      this.error = told(reason)
    }
  }

  end() {
    this.over = true
  }

  /** Whether there is more after what one answer looked through. */
  private async next(): Promise<boolean> {
    const asked = `level=${this.level}&text=${piece(this.text)}&most=${SHOWN}&last=true&offset=${this.offset}&line=${this.line}`
    const answer = await api.get<Hits>(`jobs/${this.id}/log/search?${asked}`)
    const before = this.hits.filter((hit) => hit.offset < this.offset)
    this.found += answer.found - (this.hits.length - before.length)
    this.hits = [...before, ...answer.hits].slice(-SHOWN)
    this.offset = answer.next
    this.line = answer.line
    this.done = answer.size ? answer.next / answer.size : 1
    return answer.more
  }
}
