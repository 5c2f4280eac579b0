import { en, type Text } from './en'

/** Languages of the page, each by its own name; a file of this folder each. */
export const LANGUAGES = { en: 'English', zh: '简体中文', ja: '日本語' }
export type Language = keyof typeof LANGUAGES

const KEY = 'rutile-language'
const OTHERS: Record<Exclude<Language, 'en'>, () => Promise<Text>> = {
  zh: async () => (await import('./zh')).zh,
  ja: async () => (await import('./ja')).ja,
}
const spoken = (word: string | null): word is Language => word !== null && word in LANGUAGES

/** The language that was chosen here, else the first of the browser's that the page speaks. */
export function language(): Language {
  const wished = [localStorage.getItem(KEY), ...navigator.languages.map((one) => one.split('-')[0]!)]
  return wished.find(spoken) ?? 'en'
}

/** Every sentence of the page, in its language; set before the page is made. */
export let text: Text = en

/** Fetch the sentences of the page's language. */
export async function speak() {
  const now = language()
  if (now !== 'en') text = await OTHERS[now]()
  document.documentElement.lang = now
}

/** Another language from now on. */
export function choose(another: Language) {
  localStorage.setItem(KEY, another)
  location.reload()
}

/** A sentence with its gaps filled: fill('Job {id}', { id: 3 }); a gap may say the one and the many: '{n:job:jobs}'. */
export function fill(sentence: string, gaps: Record<string, string | number>): string {
  return sentence.replace(/\{(\w+)(?::(\w+):(\w+))?\}/g, (_, name: string, one?: string, many?: string) => {
    const value = gaps[name] ?? ''
    return one ? `${value} ${Number(value) === 1 ? one : many}` : String(value)
  })
}
