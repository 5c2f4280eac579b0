import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vite'

const here = (path) => new URL(path, import.meta.url).pathname

/** Threlte 9 asks for a new picture after each one wherever there are instances: a structure at rest kept a core busy. */
const restWhereNothingMoves = {
  name: 'rest-where-nothing-moves',
  enforce: 'pre',
  transform(code, id) {
    if (!id.endsWith('Instancing/Api.svelte')) return
    const told = code
      .replace('let initialUpdateDone = false', 'let initialUpdateDone = false\n  let drawn = new Float32Array(limit * 19)')
      .replace(/invalidate\(\)\n  \}/, `const now = new Float32Array(limit * 19)
    now.set(matrices)
    now.set(colors, limit * 16)
    if (now.some((value, k) => value !== drawn[k])) invalidate()
    drawn = now
  }`)
    if (told.split('drawn').length !== 4) throw new Error('the instances of Threlte have changed: look at this again')
    return told
  },
}

export default defineConfig({
  base: './',
  plugins: [restWhereNothingMoves, svelte()],
  resolve: {
    alias: {
      // reads HDF5 trajectories in the browser, 4.5 MB; the server reads structures here
      h5wasm: here('src/viewer/no_hdf5.ts'),
    },
  },
  build: {
    outDir: '../src/rutile/server/static',
    emptyOutDir: true,
    target: ['chrome123', 'firefox121', 'safari17.5'],
    chunkSizeWarningLimit: 2000,
    reportCompressedSize: false,
  },
  server: { proxy: { '/api': 'http://127.0.0.1:8765', '/login': 'http://127.0.0.1:8765' } },
})
