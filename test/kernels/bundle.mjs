/**
 * The tests of this directory in one file, tap included: from the guest's shared root each module costs a round trip,
 * and tap's runner two minutes. The library alone is in a second file, for child processes. Where a module asks for its own place it is told the source's, which is the same
 * path in the guest.
 */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from 'esbuild'

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '../..')

/** @type {import('esbuild').Plugin} */
const ownPlace = {
  name: 'own-place',
  setup({ onLoad }) {
    onLoad({ filter: /\/(lib|test)\/.*\.ts$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8').replaceAll(
        'import.meta.url',
        JSON.stringify(pathToFileURL(path).href),
      ),
      loader: 'ts',
    }))
  },
}

/** Bundles every `*.kernel.ts` into all.mjs, and the library into lib.mjs; answers the first. */
export const bundle = async () => {
  const outdir = join(root, '.tap/kernels')
  mkdirSync(outdir, { recursive: true })
  const files = readdirSync(here).filter((name) => name.endsWith('.kernel.ts'))
  const sources = {
    all: files.sort().map((name) => `import './${name}'`),
    lib: [`export * from '../../lib/index.js'`],
  }
  for (const [name, lines] of Object.entries(sources)) {
    await build({
      stdin: { contents: lines.join('\n'), resolveDir: here },
      bundle: true,
      platform: 'node',
      format: 'esm',
      outfile: join(outdir, `${name}.mjs`),
      plugins: [ownPlace],
      logLevel: 'error',
      // tap's own packages are CommonJS in part
      banner: {
        js: `import { createRequire as from } from 'node:module'; const require = from(import.meta.url);`,
      },
    })
  }
  return join(outdir, 'all.mjs')
}
