import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vite'

const here = (path) => new URL(path, import.meta.url).pathname

export default defineConfig({
  base: './',
  plugins: [svelte()],
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
