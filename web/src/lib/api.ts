/** The REST API of the server; the page uses nothing else. */
import { reach } from './reach.svelte'

export interface Problem {
  key: string
  message: string
  /** Whether it is only that the setting was not given. */
  missing?: boolean
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly problems: Problem[] = [],
  ) {
    super(message)
  }
}

let csrf = ''
let signedOut = () => {}

/** The word that changes must carry, and what to do when the server no longer knows this browser. */
export function trust(word: string, whenSignedOut: () => void) {
  csrf = word
  signedOut = whenSignedOut
}

/** The link by which one came, if by one: the page is loaded anew where that changes. */
const LINK = /^#\/shared\/([^/?]+)/.exec(location.hash)?.[1]

/** Whether one looks at one thing by a link, and can change nothing. */
export const guest = () => LINK !== undefined

/** Where the API has something, for links and pictures. */
export const address = (path: string) => `api/${LINK ? `shared/${LINK}/` : ''}${path}`.replace(/\/$/, '')

async function send(method: string, path: string, body?: unknown, type = 'application/json'): Promise<Response> {
  const headers: Record<string, string> = {}
  if (method !== 'GET') headers['X-CSRF-Token'] = csrf
  if (body !== undefined) headers['Content-Type'] = type
  const payload = body === undefined || body instanceof Blob ? body : JSON.stringify(body)
  const answer = await fetch(address(path), { method, headers, body: payload as BodyInit | undefined }).catch(() => {
    reach.away = true
    throw new ApiError(0, 'the server does not answer')
  })
  reach.away = false
  if (answer.ok) return answer
  if (answer.status === 401 && path !== 'session') signedOut()
  const told = await answer.json().catch(() => ({}))
  throw new ApiError(answer.status, told.detail ?? answer.statusText, told.problems ?? [])
}

async function ask<T>(method: string, path: string, body?: unknown, type?: string): Promise<T> {
  const answer = await send(method, path, body, type)
  return answer.status === 204 ? (undefined as T) : answer.json()
}

/** Milliseconds: who asks for the same thing again sooner has clicked twice. */
const TWICE = 700
const asked = new Map<string, Promise<unknown>>()

/** What is posted twice by a double click is posted once, and both have its answer; not files, which may look alike. */
function once<T>(path: string, body: unknown): Promise<T> {
  const what = `${path} ${JSON.stringify(body)}`
  const before = asked.get(what) as Promise<T> | undefined
  if (before || path === 'uploads') return before ?? ask<T>('POST', path, body)
  const answer = ask<T>('POST', path, body)
  asked.set(what, answer)
  answer.catch(() => {}).finally(() => setTimeout(() => asked.delete(what), TWICE))
  return answer
}

export const api = {
  get: <T>(path: string) => ask<T>('GET', path),
  post: <T>(path: string, body?: unknown) => once<T>(path, body),
  put: <T>(path: string, body: unknown, type?: string) => ask<T>('PUT', path, body, type),
  patch: <T>(path: string, body: unknown) => ask<T>('PATCH', path, body),
  delete: (path: string) => ask<void>('DELETE', path),
}

/** A name as a piece of an address. */
export const piece = encodeURIComponent
