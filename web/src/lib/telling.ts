const ORDER = [/valid.*loss/, /loss/, /rmse/, /energy/, /temperature/]
const AXES = ['epoch', 'step', 'steps', 'seconds', 'time']

/** The column that says most about how a job goes. */
export function telling(names: string[]): string | undefined {
  const first = ORDER.map((pattern) => names.find((name) => pattern.test(name))).find(Boolean)
  return first ?? names.find((name) => !AXES.includes(name))
}
