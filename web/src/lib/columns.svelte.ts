/** Columns of a list: which are shown, and in which order, as this browser remembers. */

export interface Column {
  id: string
  title: string
  /** By which the server sorts. */
  sort?: string
  number?: boolean
  /** It leads to the thing, so it is always shown. */
  stays?: boolean
}

export class Columns {
  private readonly key: string
  private readonly every: Column[]
  private readonly first: string[]
  private ids = $state.raw<string[]>([])
  readonly shown = $derived.by(() => this.ids.map((id) => this.every.find((column) => column.id === id)!))
  readonly hidden = $derived.by(() => this.every.filter((column) => !this.ids.includes(column.id)))

  /** Of a list by its name; `first`: those that are shown at first, all where none are named. */
  constructor(list: string, every: Column[], first?: string[]) {
    this.key = `rutile-${list}-columns`
    this.every = every
    this.first = first ?? every.map((column) => column.id)
    this.ids = this.kept()
  }

  /** Show or hide. */
  turn(column: Column) {
    if (!this.ids.includes(column.id)) this.keep([...this.ids, column.id])
    else if (!this.must(column)) this.keep(this.ids.filter((id) => id !== column.id))
  }

  /** Whether it cannot be hidden: one that stays, or the last. */
  must(column: Column): boolean {
    return Boolean(column.stays) || this.ids.length === 1
  }

  /** One place to the left (-1) or to the right (1). */
  move(id: string, by: number) {
    const to = this.ids.indexOf(id) + by
    if (to < 0 || to >= this.ids.length) return
    const others = this.ids.filter((one) => one !== id)
    this.keep([...others.slice(0, to), id, ...others.slice(to)])
  }

  reset() {
    this.keep(this.first)
  }

  private keep(ids: string[]) {
    this.ids = ids
    localStorage.setItem(this.key, JSON.stringify(ids))
  }

  private kept(): string[] {
    try {
      const ids: string[] = JSON.parse(localStorage.getItem(this.key) ?? '[]')
      const known = ids.filter((id) => this.every.some((column) => column.id === id))
      return known.length ? known : this.first
    } catch {
      return this.first
    }
  }
}
