import type { Frame } from './frame'

/** A structure as a file of extended XYZ. */
export function extxyz(frame: Frame): string {
  const flat = (rows: number[][]) => rows.map((row) => row.join(' ')).join(' ')
  const about = frame.pbc.some(Boolean)
    ? `Lattice="${flat(frame.cell)}" Properties=species:S:1:pos:R:3 pbc="${frame.pbc.map((one) => (one ? 'T' : 'F')).join(' ')}"`
    : 'Properties=species:S:1:pos:R:3 pbc="F F F"'
  const lines = frame.symbols.map((symbol, k) => `${symbol} ${frame.positions[k]!.join(' ')}`)
  return [frame.symbols.length, about, ...lines, ''].join('\n')
}
