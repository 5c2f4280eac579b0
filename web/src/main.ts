import { mount } from 'svelte'
import './app.css'
import { speak } from './text'

// the page takes its sentences when its parts are loaded
await speak()
const { default: App } = await import('./App.svelte')
mount(App, { target: document.getElementById('page')! })
