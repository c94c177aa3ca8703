/**
 * Prints the test files that run under sanitizers, one a line: all of `npm test` but what is named here.
 *
 * On stderr how many were left out, and why each was.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A file, or a directory with a slash at its end, and the reason. */
export const leftOut = {
  'test/bench/': 'measures times and memory; what it calls of the addon test/mount and test/overlay call',
  'test/demo.test.ts': 'as test/bench, through a compiled copy of the package',
  'test/package/': 'builds and installs packages with addons of their own',
  'test/leaks.test.ts': 'measures resident memory, of which the sanitizer keeps 256 MB of what was freed',
  'test/coverage/': 'has nothing of the addon',
  'test/memory/': 'has nothing of the addon',
}

/**
 * What runs where OVERLAYFD_MEMORY is not `all`: each call of the addon, every way to fail, threads and workers; threads
 * that do not come back, and claims of mounts that are there.
 */
export const core = [
  'test/lifecycle/hung.test.ts',
  'test/mounter/lifetime.test.ts',
  'test/overlay/claims.test.ts',
  'test/overlay/races.test.ts',
  'test/program/',
  'test/sys/',
  'test/sys.test.ts',
  'test/userns.test.ts',
]

/**
 * @param {string} file
 * @param {readonly string[]} places files, and directories with a slash at their end
 */
const isIn = (file, places) =>
  places.some((place) => (place.endsWith('/') ? file.startsWith(place) : file === place))

/**
 * The files that tap takes by itself.
 * @param {string} taprc
 * @param {readonly string[]} names below test/
 */
export const ofTap = (taprc, names) => {
  const excluded = /^exclude:\n((?: {2}- .*\n)+)/m.exec(taprc)?.[1]?.matchAll(/- (test\/.*\/)\*\*$/gm) ?? []
  const places = [...excluded].map((match) => match[1] ?? '')
  return names
    .map((name) => `test/${name}`)
    .filter((name) => name.endsWith('.test.ts') && !isIn(name, places))
    .sort()
}

const main = () => {
  const root = join(import.meta.dirname, '../..')
  const names = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
  const all = ofTap(readFileSync(join(root, '.taprc'), 'utf8'), names)
  const isAll = process.env['OVERLAYFD_MEMORY'] === 'all'
  const possible = all.filter((file) => !isIn(file, Object.keys(leftOut)))
  const taken = isAll ? possible : possible.filter((file) => isIn(file, core))
  console.error(`${taken.length} test files under sanitizers, ${all.length - taken.length} left out:`)
  for (const [place, reason] of Object.entries(leftOut)) console.error(`  ${place}: ${reason}`)
  if (!isAll) console.error(`  ${possible.length - taken.length} files: taken with OVERLAYFD_MEMORY=all`)
  for (const file of taken) console.log(file)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main()
