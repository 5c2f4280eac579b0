import type { News } from '../admin/types'
import { api } from './api'

/** Announcements, shown above every page. */
class Told {
  all = $state.raw<News[]>([])

  async refresh() {
    this.all = await api.get<News[]>('announcements').catch(() => this.all)
  }
}

export const news = new Told()
