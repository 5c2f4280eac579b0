/** Rows of a table with commas; quotes keep commas together. */
export function rowsOf(csv: string, most = Infinity): string[][] {
  return csv.trimEnd().split(/\r?\n/).slice(0, most).map(cells)
}

function cells(line: string): string[] {
  return [...`${line},`.matchAll(/("(?:[^"]|"")*"|[^,]*)(,|$)/g)]
    .slice(0, -1)
    .map((match) => match[1]!.replace(/^"|"$/g, '').replaceAll('""', '"'))
}
