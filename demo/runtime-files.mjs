/**
 * The files that the running node needs to run elsewhere.
 *
 * The dynamic linker knows better than any parser of ELF files or of ldd's output which libraries a
 * program uses and where they were found, and Node's diagnostic report prints that list. Debian's own
 * builds of Node also keep some of their built-in modules as files in /usr/share/nodejs; those names
 * are compiled in, so they are looked for in the binary and its libnode.
 */
import { readFileSync, realpathSync, statSync } from 'node:fs'
import { basename } from 'node:path'

/** Where node is in the image. */
export const NODE = '/bin/node'

/** @typedef {{ source: string, target: string }} RuntimeFile `source` on this machine, `target` in the image */

/** @returns {RuntimeFile[]} node first; paths of libraries are those of this machine */
export function runtimeFiles() {
  const node = realpathSync(process.execPath)
  const libraries = sharedObjects()
  const binaries = [node, ...libraries.filter((path) => basename(path).startsWith('libnode.'))]
  const paths = new Set([...libraries, ...binaries.flatMap(externalModules)])
  return [
    { source: node, target: NODE },
    ...[...paths].map((path) => ({ source: realpathSync(path), target: path })),
  ]
}

/** @returns {string[]} absolute paths as the linker found them, without addons; the loader itself is one */
function sharedObjects() {
  // without this the report looks up the names of all network peers, which can take seconds
  Object.assign(process.report, { excludeNetwork: true })
  const report = /** @type {unknown} */ (process.report.getReport())
  const { sharedObjects: paths } = /** @type {{ sharedObjects: string[] }} */ (report)
  return paths.filter((path) => path.startsWith('/') && !path.endsWith('.node'))
}

const EXTERNAL_MODULES = '/usr/share/nodejs/'

/** @param {string} binary @returns {string[]} files of EXTERNAL_MODULES that are named in it */
function externalModules(binary) {
  const bytes = readFileSync(binary)
  const found = []
  for (let at = bytes.indexOf(EXTERNAL_MODULES); at >= 0; at = bytes.indexOf(EXTERNAL_MODULES, at + 1)) {
    const name = /^[\w/.@-]+\.js/.exec(bytes.toString('latin1', at, at + 255))?.[0]
    if (name && statSync(name, { throwIfNoEntry: false })?.isFile()) found.push(name)
  }
  return found
}
