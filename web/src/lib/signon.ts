/** Signing in with the account of one's institution, where the server knows a provider. */
import { api } from './api'

export interface SignOn {
  name: string | null
  begin: string
  problem: '' | 'unreachable' | 'wrong'
}

export const signOn = () => api.get<SignOn>('sign-on')
