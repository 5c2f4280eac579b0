/** Arrows walk through the rows of a list, Home and End to the first and last; the space bar selects where one can. */
export function walk(event: KeyboardEvent) {
  const here = event.target as HTMLElement
  if (!here.matches('[data-open]')) return
  const links = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>('[data-open]')]
  const at = links.indexOf(here)
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key]
  const box = here.closest('[data-row], tr')?.querySelector<HTMLElement>('input[type=checkbox]')
  if (to !== undefined) links[Math.max(0, Math.min(to, links.length - 1))]!.focus()
  else if (event.key === ' ' && box) box.click()
  else return
  event.preventDefault()
}
