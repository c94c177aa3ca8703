/**
 * A program of the tests, with all that it loads of dist/, in one file: for those that are started thousands of times,
 * because to load a hundred modules costs such a process more than all else that it does. Where a module of dist/ asks for its
 * own place it is told that of its source, so that it finds the addon.
 */
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { build } from 'esbuild'

/** @type {import('esbuild').Plugin} */
const ownPlace = {
  name: 'own-place',
  setup({ onLoad }) {
    onLoad({ filter: /\/dist\/.*\.js$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8').replaceAll(
        'import.meta.url',
        JSON.stringify(pathToFileURL(path).href),
      ),
    }))
  },
}

/**
 * @param {string} program its path
 * @param {string} outfile where it is written, anywhere
 */
export const bundle = async (program, outfile) => {
  await build({
    entryPoints: [program],
    outfile,
    bundle: true,
    minify: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    plugins: [ownPlace],
    logLevel: 'error',
    // what loads the addon is CommonJS
    banner: {
      js: `import { createRequire as from } from 'node:module'; const require = from(import.meta.url);`,
    },
  })
}
