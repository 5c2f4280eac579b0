import { en, type Text } from './en'

/** The language of the page; there is one catalogue so far. */
export const text: Text = en

/** A sentence with its gaps filled: fill('Job {id}', { id: 3 }). */
export function fill(sentence: string, gaps: Record<string, string | number>): string {
  return sentence.replace(/\{(\w+)\}/g, (_, name: string) => String(gaps[name] ?? ''))
}
