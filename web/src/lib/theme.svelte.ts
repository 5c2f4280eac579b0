/** Light or dark: as the system says, unless one was chosen. */

type Theme = 'auto' | 'light' | 'dark'
const KEY = 'rutile-theme'

class Look {
  chosen = $state<Theme>((localStorage.getItem(KEY) as Theme | null) ?? 'auto')
  private system = matchMedia('(prefers-color-scheme: dark)')
  private systemDark = $state(this.system.matches)
  dark = $derived(this.chosen === 'dark' || (this.chosen === 'auto' && this.systemDark))

  constructor() {
    this.system.addEventListener('change', (event) => (this.systemDark = event.matches))
    this.apply()
  }

  turn() {
    this.chosen = this.dark ? 'light' : 'dark'
    localStorage.setItem(KEY, this.chosen)
    this.apply()
  }

  private apply() {
    document.documentElement.style.colorScheme = this.chosen === 'auto' ? 'light dark' : this.chosen
  }
}

export const look = new Look()
