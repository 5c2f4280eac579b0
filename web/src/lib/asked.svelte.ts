import { told } from './loaded.svelte'

/** Something that was asked of the server, and what it said against it. */
export class Asked {
  error = $state('')

  /** Do it; a refusal is kept to be shown. */
  async do(act: () => Promise<unknown>): Promise<void> {
    this.error = ''
    await act().catch((reason) => (this.error = told(reason)))
  }
}
