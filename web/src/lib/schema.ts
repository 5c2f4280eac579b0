/** JSON schemas of settings (draft 2020-12, as pydantic writes them), as a form needs them. */
import type { Tree } from './types'

export interface Node {
  $ref?: string
  type?: string
  title?: string
  description?: string
  default?: Tree
  const?: Tree
  enum?: Tree[]
  anyOf?: Node[]
  oneOf?: Node[]
  discriminator?: { propertyName: string; mapping: Record<string, string> }
  properties?: Record<string, Node>
  required?: string[]
  additionalProperties?: boolean | Node
  items?: Node
  prefixItems?: Node[]
  format?: string
  unit?: string
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  exclusiveMaximum?: number
  'x-essential'?: boolean
  'x-role'?: Role
  $defs?: Defs
}

export type Defs = Record<string, Node>
export type Role = 'output' | 'model' | 'folder' | 'structures'
export type Kind =
  | 'const' | 'choice' | 'boolean' | 'number' | 'text' | 'path' | 'tagged' | 'variants' | 'group' | 'tuple' | 'dict'
  | 'words' | 'choices' | 'paths' | 'list' | 'json'

/** A node without references and without null, and whether null was allowed. */
export function opened(node: Node, defs: Defs): { node: Node; nullable: boolean } {
  const whole = resolved(node, defs)
  const kinds = whole.anyOf
  if (!kinds?.some((one) => one.type === 'null')) return { node: whole, nullable: false }
  const { anyOf: _, ...about } = whole
  const others = kinds.filter((one) => one.type !== 'null').map((one) => resolved(one, defs))
  const same = others.length > 1 && others.every((one) => one.type === 'string')
  const inner = others.length === 1 ? others[0]! : same ? (others.find((one) => one.format) ?? others[0]!) : { anyOf: others }
  return { node: { ...inner, ...about, 'x-role': about['x-role'] ?? inner['x-role'] }, nullable: true }
}

function resolved(node: Node, defs: Defs): Node {
  if (!node.$ref) return node
  const { $ref, ...about } = node
  return { ...resolved(defs[$ref.split('/').pop()!] ?? {}, defs), ...about }
}

/** Settings as a form has them: where a name alone says the variant of a union, or one value a list, as the server allows. */
export function whole(value: Tree, node: Node, kind: Kind): Tree {
  if (kind === 'tagged' && typeof value === 'string') return { [node.discriminator!.propertyName]: value }
  const one = typeof value === 'string' || typeof value === 'number'
  if (!one || !['words', 'choices', 'paths'].includes(kind)) return value
  return typeof value === 'string' ? value.split(',').map((word) => word.trim()) : [value]
}

/** Which input a node needs. */
export function kindOf(node: Node, defs: Defs): Kind {
  if ('const' in node) return 'const'
  if (node.enum) return 'choice'
  if (node.oneOf && node.discriminator) return 'tagged'
  if (node.anyOf) return 'variants'
  if (node.type === 'boolean') return 'boolean'
  if (node.type === 'number' || node.type === 'integer') return 'number'
  if (node.type === 'string') return node.format === 'path' ? 'path' : 'text'
  if (node.type === 'array') return kindOfList(node, defs)
  if (node.type === 'object' && node.properties) return 'group'
  if (node.type === 'object' && typeof node.additionalProperties === 'object') return 'dict'
  return 'json'
}

function kindOfList(node: Node, defs: Defs): Kind {
  if (node.prefixItems) return 'tuple'
  if (!node.items) return 'json'
  const item = opened(node.items, defs).node
  if (item.enum) return 'choices'
  const kind = kindOf(item, defs)
  if (kind === 'path') return 'paths'
  return kind === 'number' || kind === 'text' ? 'words' : 'list'
}

/** The kinds of a tagged union: name -> its settings. */
export function tags(node: Node, defs: Defs): Record<string, Node> {
  const mapping = node.discriminator?.mapping ?? {}
  return Object.fromEntries(Object.entries(mapping).map(([tag, ref]) => [tag, resolved({ $ref: ref }, defs)]))
}

/** Whether a value could stand for a node: tells variants apart. */
export function fits(value: Tree, node: Node): boolean {
  if (node.enum) return node.enum.includes(value)
  if (Array.isArray(value)) return node.type === 'array'
  if (typeof value === 'number') return node.type === 'number' || node.type === 'integer'
  if (typeof value === 'string') return node.type === 'string'
  return value !== null && typeof value === 'object' && (node.type === 'object' || 'oneOf' in node)
}

export function range(node: Node): string {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = node
  const low = minimum !== undefined ? `≥ ${minimum}` : exclusiveMinimum !== undefined ? `> ${exclusiveMinimum}` : ''
  const high = maximum !== undefined ? `≤ ${maximum}` : exclusiveMaximum !== undefined ? `< ${exclusiveMaximum}` : ''
  return [low, high].filter(Boolean).join(', ')
}

export function same(a: Tree, b: Tree): boolean {
  if (a === b) return true
  if (a === null || b === null || typeof a !== 'object' || typeof b !== 'object') return false
  const keys = Object.keys(a)
  return keys.length === Object.keys(b).length && keys.every((key) => key in b && same(a[key], b[key]))
}

/** Settings of a group with one of them changed; undefined when nothing is left that differs from the default. */
export function changed(given: Tree, fallback: Tree, key: string, value: Tree, keep: Tree = {}): Tree {
  const next: Tree = { ...keep, ...given }
  delete next[key]
  if (value !== undefined) next[key] = value
  return fallback && same(next, keep) ? undefined : next
}

/** The default of a setting, where `suited` follows from other settings: groups of one kind are taken together. */
export function overlaid(node: Node, suited: Tree, defs: Defs): Tree {
  const usual = node.default
  if (suited === undefined) return usual
  const inner = opened(node, defs).node
  const kind = kindOf(inner, defs)
  const tag = inner.discriminator?.propertyName
  const grouped = (kind === 'group' || kind === 'tagged') && usual && suited && typeof suited === 'object'
  if (!grouped || (tag && suited[tag] !== undefined && suited[tag] !== usual[tag])) return suited
  const properties = tag ? tags(inner, defs)[usual[tag]]?.properties : inner.properties
  const keys = Object.keys({ ...usual, ...suited })
  return Object.fromEntries(keys.map((key) => [key, overlaid({ ...properties?.[key], default: usual[key] }, suited[key], defs)]))
}

/** What stands in a tree under a dotted key. */
export function at(tree: Tree, path: string): Tree {
  return path.split('.').reduce((inner, key) => inner?.[key], tree)
}

export interface Leaf { keys: string[]; node: Node; value: Tree }

/** Everything that was set, group by group; of a union first its kind. */
export function leaves(raw: Node, given: Tree, defs: Defs, keys: string[] = []): Leaf[] {
  const node = opened(raw, defs).node
  const kind = kindOf(node, defs)
  const value = whole(given, node, kind)
  const grouped = (kind === 'group' || kind === 'tagged') && value && typeof value === 'object'
  if (!grouped) return [{ keys, node, value }]
  const tag = node.discriminator?.propertyName
  const group = tag ? (tags(node, defs)[value[tag]] ?? node) : node
  const named = tag && value[tag] !== undefined ? [{ keys, node: {}, value: value[tag] }] : []
  const inside = Object.keys(value).filter((key) => key !== tag)
  return [...named, ...inside.flatMap((key) => leaves(group.properties?.[key] ?? {}, value[key], defs, [...keys, key]))]
}
