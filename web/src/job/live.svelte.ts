import { address, api, guest } from '../lib/api'
import { told } from '../lib/loaded.svelte'
import { reach } from '../lib/reach.svelte'
import { ENDED, type JobRow, type JobView, type LogPiece, type Series, type Tree } from '../lib/types'

const SHOWN = 400_000
const TAIL = 60_000
/** Of more rows means are drawn, with a band from the smallest to the largest value. */
const POINTS = 500
/** Milliseconds until a server that did not answer is asked again. */
const AGAIN = 3000

/** A job that is looked at: the job, its log and its curves, kept up to date by one stream of events. */
export class LiveJob {
  job = $state.raw<JobView | null>(null)
  error = $state('')
  log = $state.raw('')
  /** Where the log begins that is shown (bytes). */
  logStart = $state(0)
  metrics = $state.raw<Series | null>(null)
  live = $state(false)
  private events: EventSource | null = null

  constructor(private readonly id: string) {}

  /** For $effect, which ends it. */
  follow(): () => void {
    let over = false
    const begin = () => {
      if (over) return
      this.open().then(() => (this.error = ''), (reason) => {
        this.error = told(reason)
        if (reach.away) setTimeout(begin, AGAIN)
      })
    }
    begin()
    return () => {
      over = true
      this.close()
    }
  }

  async refresh() {
    this.job = await api.get<JobView>(`jobs/${this.id}`)
  }

  /** Put what came before in front of the log that is shown. */
  async earlier() {
    const from = Math.max(0, this.logStart - TAIL)
    const piece = await api.get<LogPiece>(`jobs/${this.id}/log?offset=${from}&limit=${this.logStart - from}`)
    this.log = piece.text + this.log
    this.logStart = piece.offset
  }

  private async open() {
    await this.refresh()
    const piece = await api.get<LogPiece>(`jobs/${this.id}/log?offset=-${TAIL}`)
    this.log = piece.text
    this.logStart = piece.offset
    await this.drawAgain()
    if (this.job && !guest() && !ENDED.includes(this.job.state)) this.listen(piece.next)
  }

  private listen(offset: number) {
    const events = new EventSource(address(`jobs/${this.id}/events?offset=${offset}`))
    this.events = events
    events.onopen = () => (this.live = true)
    const on = (name: string, take: (data: Tree) => void) =>
      events.addEventListener(name, (event) => take(JSON.parse((event as MessageEvent<string>).data)))
    on('job', (row: JobRow) => this.job && (this.job = { ...this.job, ...row }))
    on('log', (piece: LogPiece) => {
      offset = piece.next
      this.write(piece.text)
    })
    let waiting: ReturnType<typeof setTimeout> | undefined
    on('metrics', () => {
      waiting ??= setTimeout(() => { waiting = undefined; void this.drawAgain() }, 1000)
    })
    on('end', () => {
      this.close()
      void this.refresh()
      void this.drawAgain()
    })
    events.onerror = () => {
      events.close()
      if (this.events !== events) return
      this.live = false
      this.refresh().catch(() => {})
      setTimeout(() => this.events === events && this.listen(offset), AGAIN)
    }
  }

  private write(text: string) {
    const whole = this.log + text
    this.log = whole.slice(-SHOWN)
    this.logStart += new TextEncoder().encode(whole.slice(0, whole.length - this.log.length)).length
  }

  private async drawAgain() {
    this.metrics = await api.get<Series>(`jobs/${this.id}/metrics?points=${POINTS}&bands=true`)
  }

  private close() {
    this.events?.close()
    this.events = null
    this.live = false
  }
}
