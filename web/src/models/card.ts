/** What should be known about a model before it is used, as text (Markdown). */
import { number, words } from '../lib/format'
import { unitOf, type Model } from './types'

export function cardOf(model: Model): string {
  const { card } = model
  const modes = ((card.info?.calc_modes ?? []) as string[]).filter(Boolean)
  const facts: [string, string][] = [
    ['Stage', model.stage], ['Elements', model.elements.join(', ')], ['Architecture', `${card.potential}${card.members > 1 ? `, ${card.members} members` : ''}`],
    ['Cutoff', card.cutoff ? `${number(card.cutoff, 4)} Å` : ''], ['Core repulsion', card.core_repulsion === undefined ? '' : card.core_repulsion === null ? 'no' : `ends at ${number(card.core_repulsion, 3)} of the sum of the covalent radii`], ['Precision', String(card.precision)], ['Reference methods', modes.join(', ')], ['Trained on', model.datasets.map((one) => `${one.reference} (${one.sha256.slice(0, 12)})`).join(', ')],
    ['Trained from', model.parent_id ? `model:${model.parent_id}` : ''], ['Error bars', card.calibrated ? 'calibrated' : 'not calibrated'], ['SHA-256', model.sha256],
  ]
  const errors = model.metrics.flatMap(({ set, values }) => Object.entries(values).map(([name, value]) => `| ${set} | ${words(name)} | ${number(value, 4)} | ${unitOf(name)} |`))
  return [
    `# ${model.name}`, '', model.description, '', ...facts.filter(([, value]) => value).map(([name, value]) => `- ${name}: ${value}`),
    ...(errors.length ? ['', '| set | quantity | value | unit |', '|---|---|---|---|', ...errors] : []), '',
  ].join('\n')
}
