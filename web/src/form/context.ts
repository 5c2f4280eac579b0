import { getContext, setContext } from 'svelte'
import type { Problem } from '../lib/api'
import { words } from '../lib/format'
import type { Defs, Node } from '../lib/schema'
import type { Tree } from '../lib/types'
import { fill, text } from '../text'

/** What every field of a form shares. */
export interface FormContext {
  readonly defs: Defs
  /** What is to be shown beside fields. */
  readonly problems: Problem[]
  /** Defaults that follow from what is given: they hold before those of the schema. */
  readonly suited: Tree
  /** Whether values are only shown. */
  readonly readonly: boolean
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

/** A problem in a sentence; of a setting that was not given only that, as its meaning stands beside its field. */
export function said(problem: Problem): string {
  return problem.missing ? fill(text.form.needed, { name: problem.key.split('.').map(words).join(': ') }) : problem.message
}

const KEY = Symbol('form')

export const shareForm = (form: FormContext) => setContext(KEY, form)
export const sharedForm = () => getContext<FormContext>(KEY)
