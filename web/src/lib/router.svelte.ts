/** Where the page is: everything behind the # of the address, so that filters can be shared and kept. */

type Query = Record<string, string | number | string[] | null | undefined>

class Route {
  path = $state('/')
  query = $state.raw(new URLSearchParams())
  /** The path in pieces: /jobs/12 is ['jobs', '12']. */
  parts = $derived(this.path.split('/').filter(Boolean).map(decodeURIComponent))
}

export const route = new Route()

function read() {
  const [path = '/', query = ''] = location.hash.slice(1).split(/\?(.*)/s)
  route.path = path || '/'
  route.query = new URLSearchParams(query)
}

addEventListener('hashchange', read)
read()

export function href(path: string, query: Query = {}): string {
  const words = written(new URLSearchParams(), query).toString()
  return `#${path}${words ? `?${words}` : ''}`
}

export function go(path: string, query: Query = {}) {
  location.hash = href(path, query)
}

/** Change some of the query; null takes a word away. */
export function setQuery(changes: Query) {
  const words = written(new URLSearchParams(route.query), changes).toString()
  history.replaceState(null, '', `#${route.path}${words ? `?${words}` : ''}`)
  read()
}

function written(query: URLSearchParams, changes: Query): URLSearchParams {
  for (const [key, value] of Object.entries(changes)) {
    query.delete(key)
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== '') query.append(key, String(one))
    }
  }
  return query
}
