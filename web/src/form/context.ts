import { getContext, setContext } from 'svelte'
import type { Problem } from '../lib/api'
import type { Defs, Node } from '../lib/schema'
import type { Tree } from '../lib/types'

/** What every field of a form shares. */
export interface FormContext {
  readonly defs: Defs
  /** What is to be shown beside fields. */
  readonly problems: Problem[]
}

/** What every kind of input is given; `value` is what was set (undefined: nothing), `fallback` what holds otherwise. */
export interface InputProps {
  node: Node
  nullable: boolean
  name: string
  path: string
  id: string
  value: Tree
  fallback: Tree
  set: (value: Tree) => void
  invalid: boolean
}

const KEY = Symbol('form')

export const shareForm = (form: FormContext) => setContext(KEY, form)
export const sharedForm = () => getContext<FormContext>(KEY)
