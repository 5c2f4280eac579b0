import { ApiError, api, trust } from './api'
import type { SessionView, User } from './types'

/** Who is signed in. */
class Session {
  user = $state.raw<User | null>(null)
  version = $state('')
  notebooks = $state(false)
  unixAccounts = $state(false)
  /** Whether the server has been asked. */
  known = $state(false)
  error = $state('')
  /** Whether the server no longer knows this browser, though nobody has signed out here. */
  lost = $state(false)

  async begin() {
    try {
      this.accept(await api.get<SessionView>('session'))
    } catch (reason) {
      if (!(reason instanceof ApiError) || reason.status !== 401) this.error = String((reason as Error).message)
      this.forget()
    }
  }

  accept(view: SessionView) {
    trust(view.csrf, () => {
      this.lost = true
      this.forget()
    })
    this.user = view.user
    this.version = view.version
    this.notebooks = view.notebooks
    this.unixAccounts = view.unix_accounts
    this.known = true
    this.error = ''
    this.lost = false
  }

  forget() {
    this.user = null
    this.notebooks = false
    this.unixAccounts = false
    this.known = true
  }

  may(scope: string): boolean {
    return this.user?.scopes.includes(scope) ?? false
  }
}

export const session = new Session()
