/**
 * Two rules that no compiler knows, checked over the text of native/ and lib/:
 *
 *   native/ decides nothing: no word about what is mounted stands in it but the names that the kernel and the
 *           package have.
 *   lib/    imports point down the house, one file loads the addon, and no file is in a circle.
 *
 * The rules are functions of (path, text), so that a test runs them over files that are not there; as a
 * program it reads the tree, prints `file:line: what` and ends with 1 when there is something.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * The house from the roof down: a file may import from its own row and from those below it. What all may
 * use is at the bottom.
 * @type {readonly { part: string, files: RegExp }[]}
 */
export const house = [
  { part: 'index', files: /^index\.ts$/ },
  { part: 'cli', files: /^cli\// },
  { part: 'store', files: /^store\// },
  { part: 'mounter', files: /^mounter(\.ts$|\/)/ },
  // what is mounted, and what a mount is: the handle of a rootfs is one of a mount, and both go by the same plans
  { part: 'overlay', files: /^(overlay\/|mount\/|diagnose(\.ts$|\/))/ },
  { part: 'program', files: /^(program\/|tracing\.ts$)/ },
  { part: 'rootless', files: /^rootless(\.ts$|\/)/ },
  { part: 'idmap', files: /^idmap\.ts$/ },
  { part: 'host', files: /^host\// },
  { part: 'sys', files: /^sys(\.ts$|\/)/ },
  { part: 'path', files: /^path\.ts$/ },
  { part: 'binding', files: /^binding\.ts$/ },
  { part: 'leaves', files: /^(flags\/|(check|errors|errno|exhausted|flags|notation)\.ts$)/ },
]

/** The only file that may load the addon, and what loading looks like. */
const LOADER = 'binding.ts'
const LOADING = /node-gyp-build|\.node['"`]|process\.dlopen|build\/Release/

/** What native/ must not speak of, and the names in which it may stand. */
const FOREIGN =
  /\w*overlay\w*|\b\w*(?:lower|upper|work|data)_?dirs?\b|\blayers?\b|\bwhiteouts?\b|\brootfs\b/gi
const NAMES = new Set(['OVERLAYFS_SUPER_MAGIC', 'overlayfd'])

const lineOf = (text, index) => text.slice(0, index).split('\n').length

/** @returns {{ file: string, line: number, what: string }[]} */
export const foreignWords = (file, text) =>
  [...text.matchAll(FOREIGN)]
    .filter(([word]) => !NAMES.has(word))
    .map(({ 0: word, index }) => ({
      file,
      line: lineOf(text, index),
      what: `'${word}': native code makes calls and decides nothing; the meaning belongs into lib/`,
    }))

const IMPORT = /^(?:import|export)\b[^'"]*?\bfrom\s+'([^']+)'|^import\s+'([^']+)'|\bimport\(\s*'([^']+)'/gm

/** Paths of lib/ that a file imports, with where. */
const importsOf = (file, text) =>
  [...text.matchAll(IMPORT)].flatMap((match) => {
    const specifier = match[1] ?? match[2] ?? match[3]
    if (!specifier.startsWith('.')) return []
    const target = posix.join(posix.dirname(file), specifier).replace(/\.js$/, '.ts')
    return [{ target, line: lineOf(text, match.index), isType: /^(im|ex)port type\b/.test(match[0]) }]
  })

const rowOf = (file) => house.findIndex(({ files }) => files.test(file))

/**
 * @param {Map<string, string>} files path below lib/ → text
 * @returns {{ file: string, line: number, what: string }[]}
 */
export const importFaults = (files) => {
  const faults = []
  for (const [file, text] of files) {
    const row = rowOf(file)
    if (row === -1) {
      faults.push({
        file,
        line: 1,
        what: 'has no place in the house: a row of `house` in test/support/lint-native.mjs',
      })
    }
    const loading = file === LOADER ? null : LOADING.exec(text)
    if (loading) {
      faults.push({ file, line: lineOf(text, loading.index), what: `loads the addon: only ${LOADER} does` })
    }
    for (const { target, line } of importsOf(file, text)) {
      const below = rowOf(target)
      if (row !== -1 && below !== -1 && below < row) {
        faults.push({
          file,
          line,
          what: `imports ${target}: '${house[row].part}' is below '${house[below].part}'`,
        })
      }
    }
  }
  return faults
}

/** Circles of imports, each once, as the files along it. What is imported as a type only is not loaded by it. */
export const circles = (files) => {
  const found = []
  const done = new Set()
  const visit = (file, path) => {
    const start = path.indexOf(file)
    if (start !== -1) found.push([...path.slice(start), file])
    if (start !== -1 || done.has(file)) return
    const loaded = importsOf(file, files.get(file) ?? '').filter(({ isType }) => !isType)
    for (const { target } of loaded) visit(target, [...path, file])
    done.add(file)
  }
  for (const file of files.keys()) visit(file, [])
  return found
}

/** @returns {Map<string, string>} */
const readTree = (dir, ending) =>
  new Map(
    readdirSync(dir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && ending.test(entry.name))
      .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
      .map((file) => [relative(dir, file), readFileSync(file, 'utf8')]),
  )

const main = () => {
  const root = join(dirname(fileURLToPath(import.meta.url)), '../..')
  const native = readTree(join(root, 'native'), /\.(cc|h|c)$/)
  const lib = readTree(join(root, 'lib'), /\.ts$/)
  const faults = [
    ...[...native].flatMap(([file, text]) => foreignWords(`native/${file}`, text)),
    ...importFaults(lib).map((fault) => ({ ...fault, file: `lib/${fault.file}` })),
    ...circles(lib).map((path) => ({
      file: `lib/${path[0]}`,
      line: 1,
      what: `imports in a circle: ${path.join(' → ')}`,
    })),
  ]
  for (const { file, line, what } of faults) console.error(`${file}:${line}: ${what}`)
  if (faults.length > 0) process.exitCode = 1
  else console.log(`lint-native: ${native.size} files of native/ and ${lib.size} of lib/, nothing to say`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main()
