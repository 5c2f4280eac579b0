/** The description of the API, as its page shows it. */
import type { Node as Shape } from './schema'
import type { Tree } from './types'

export interface Parameter {
  name: string
  in: 'path' | 'query' | 'header' | 'cookie'
  required?: boolean
  description?: string
  schema: Shape
}

interface Content {
  content?: Record<string, { schema?: Shape }>
}

export interface Operation {
  method: string
  path: string
  tag: string
  about: string
  scope: string
  client: string
  parameters: Parameter[]
  body?: Shape
  answer?: Shape
}

interface Told {
  tags?: string[]
  description?: string
  summary?: string
  parameters?: Parameter[]
  requestBody?: Content
  responses: Record<string, Content>
  'x-scope'?: string
  'x-client'?: string
}

export interface Described {
  paths: Record<string, Record<string, Told>>
  components: { schemas: Record<string, Shape> }
  'x-recipes': { name: string; code: string }[]
}

const DEEP = 4
const inside = (content?: Content) => Object.values(content?.content ?? {})[0]?.schema

export function operations(all: Described): Operation[] {
  return Object.entries(all.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, told]) => ({
      method: method.toUpperCase(), path: path.replaceAll(/\{(\w+)\}/g, ':$1'), tag: told.tags?.[0] ?? '', about: told.description ?? told.summary ?? '',
      scope: told['x-scope'] ?? '', client: told['x-client'] ?? '', parameters: told.parameters ?? [],
      body: inside(told.requestBody), answer: inside(Object.entries(told.responses).find(([code]) => code.startsWith('2'))?.[1]),
    })),
  )
}

/** A schema as it is read: the kind of a value, in one word or few. */
export function kind(shape: Shape): string {
  if (shape.$ref) return shape.$ref.split('/').pop()!
  if (shape.enum) return shape.enum.map((one) => JSON.stringify(one)).join(' | ')
  if ('const' in shape) return JSON.stringify(shape.const)
  const some = shape.anyOf ?? shape.oneOf
  if (some) return some.map(kind).join(' | ')
  if (shape.type === 'array') return shape.prefixItems ? `[${shape.prefixItems.map(kind).join(', ')}]` : `${kind(shape.items ?? {})}[]`
  if (shape.type === 'object' && typeof shape.additionalProperties === 'object') return `{name: ${kind(shape.additionalProperties)}}`
  return shape.type ?? 'any'
}

/** Lines of a schema with all that is inside, each name once on its way down. */
export function written(shape: Shape, all: Described, deep = 0, above: string[] = []): string {
  const name = refers(shape)
  const whole = name ? (all.components.schemas[name] ?? {}) : shape
  if (!whole.properties || deep > DEEP || (name && above.includes(name))) return deep ? '' : kind(whole)
  const space = '  '.repeat(deep)
  return Object.entries(whole.properties).map(([key, one]) => {
    const free = whole.required?.includes(key) ? '' : '?'
    const about = one.description ? `   # ${one.description.replaceAll(/\s+/g, ' ')}` : ''
    const below = written(one, all, deep + 1, name ? [...above, name] : above)
    return `${space}${key}${free}: ${kind(one)}${about}${below ? `\n${below}` : ''}`
  }).join('\n')
}

/** The schema that a value, a list of values or a value that may be missing is of. */
function refers(shape: Shape): string | undefined {
  if (shape.$ref) return shape.$ref.split('/').pop()
  if (shape.items) return refers(shape.items)
  const some = (shape.anyOf ?? []).filter((one) => one.type !== 'null')
  return some.length === 1 ? refers(some[0]!) : undefined
}

/** An example of a value: what must be given, and nothing more. */
function example(shape: Shape, all: Described): Tree {
  if (shape.$ref) return example(all.components.schemas[shape.$ref.split('/').pop()!] ?? {}, all)
  if ('const' in shape) return shape.const!
  if (shape.enum) return shape.enum[0]!
  const some = shape.anyOf ?? shape.oneOf
  if (some) return example(some[0]!, all)
  if (shape.type === 'integer' || shape.type === 'number') return 1
  if (shape.type === 'boolean') return true
  if (shape.type === 'array') return [example(shape.items ?? {}, all)]
  if (shape.type !== 'object') return '...'
  return Object.fromEntries((shape.required ?? []).map((key) => [key, example(shape.properties?.[key] ?? {}, all)]))
}

const asked = (operation: Operation) => operation.parameters.filter((one) => one.in === 'query' && one.required)
const query = (operation: Operation, all: Described) => asked(operation).map((one) => [one.name, example(one.schema, all)] as const)

/** The operation as a line of shell; what follows a colon is to be filled in. */
export function curl(operation: Operation, all: Described, origin: string): string {
  const words = query(operation, all).map(([name, value]) => `${name}=${Array.isArray(value) ? value[0] : value}`).join('&')
  const method = operation.method === 'GET' ? '' : ` -X ${operation.method}`
  const body = operation.body
    ? ` \\\n  -H "Content-Type: application/json" -d '${JSON.stringify(example(operation.body, all))}'` : ''
  return `curl${method} -H "Authorization: Bearer $RUTILE_TOKEN"${body} \\\n  "${origin}${operation.path}${words ? `?${words}` : ''}"`
}

/** The operation by `rutile.Client`: its own method, or the one for everything. */
export function called(operation: Operation, all: Described): string {
  if (operation.client) return operation.client
  const path = operation.path.replace(/^\/api/, '')
  const words = query(operation, all).map(([name, value]) => `, ${name}=${python(value)}`).join('')
  const body = operation.body ? `, ${python(example(operation.body, all))}` : ''
  return `client.request("${operation.method}", "${path}"${body}${words})`
}

/** A value as Python writes it. */
function python(value: Tree): string {
  if (value === null) return 'None'
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (Array.isArray(value)) return `[${value.map(python).join(', ')}]`
  if (typeof value !== 'object') return JSON.stringify(value)
  return `{${Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${python(one as Tree)}`).join(', ')}}`
}
