export interface Stored {
  id: number
  name: string
  owner: string
  mine: boolean
  privacy: string
  created: number
  formula: string
  frames: number
  atoms: number
  elements: string[]
  /** Whose file it was kept of. */
  job_id: number | null
}
