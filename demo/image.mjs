/**
 * Makes the demo's image from what is on any machine.
 *
 * The bottom layer holds the node binary that runs this, the shared libraries it has loaded, and the
 * container's program. Each further layer is made as layers are made everywhere: an overlay of all
 * layers below with an empty upper directory, changed through ordinary file calls, then unmounted. The
 * kernel so writes the whiteouts and the opaque directories itself (Node could not: it has neither mknod
 * nor setxattr). The overlay stays detached meanwhile; its path is one of /proc/self/fd.
 *
 *   <directory>/N/fs     layer N, 1 is the bottom
 *   <directory>/N/work   its work directory while it was made
 */
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { mountOverlay } from '../dist/index.js'
import { runtimeFiles } from './runtime-files.mjs'
import { fileEntry } from './tree.mjs'

/** The program that the containers run. */
export const PROGRAM = '/app/program.mjs'

/**
 * @typedef {object} Image
 * @property {string[]} lowerdir layers, topmost first, as overlayfs has them
 * @property {Map<string, import('./tree.mjs').Entry>} merged what the merged tree must be, by path
 * @property {string} libraryPath LD_LIBRARY_PATH for node in the image
 * @property {number} owner an id other than 0 that owns a file, or 0
 * @property {{ layers: number, runtimeFiles: number, bytes: number, files: number, whiteouts: number,
 *   replaced: number, opaque: number }} contents counts; `bytes` is the size of node and its libraries
 */

/**
 * @param {object} options
 * @param {string} options.directory an existing, empty one on a filesystem that can hold an upper layer
 * @param {number} options.layers at least 2
 * @param {number} options.owner who owns the user's file, 0 where only id 0 exists
 * @param {boolean} options.userxattr in a user namespace
 * @returns {Promise<Image>}
 */
export async function makeImage({ directory, layers, owner, userxattr }) {
  const recorder = new Recorder()
  const runtime = runtimeFiles()
  const bottom = layerDirectory(directory, 1, 'fs')
  base(recorder.at(bottom), runtime, owner)

  const lowerdir = [bottom]
  for (let n = 2; n <= layers; n++) {
    const upperdir = layerDirectory(directory, n, 'fs')
    const workdir = layerDirectory(directory, n, 'work')
    // what a crash would lose is thrown away with the rest, so the upper need not be synced
    const rootfs = await mountOverlay({ lowerdir, upperdir, workdir, options: { volatile: true, userxattr } })
    commit(recorder.at(rootfs.path), n, layers)
    await rootfs.unmount()
    lowerdir.unshift(upperdir)
  }

  const { merged, replaced, opaque, files } = recorder
  const bytes = runtime.reduce((total, file) => total + statSync(file.source).size, 0)
  const whiteouts = lowerdir.reduce((total, layer) => total + countWhiteouts(layer), 0)
  const contents = { layers, runtimeFiles: runtime.length, bytes, files, whiteouts, replaced, opaque }
  const libraryPath = [...new Set(runtime.map((file) => dirname(file.target)))].join(':')
  return { lowerdir, merged, libraryPath, owner, contents }
}

/** @param {string} directory @param {number} n @param {'fs' | 'work'} name */
function layerDirectory(directory, n, name) {
  const path = join(directory, String(n), name)
  mkdirSync(path, { recursive: true })
  return path
}

/**
 * @param {Recorder} to
 * @param {import('./runtime-files.mjs').RuntimeFile[]} runtime
 * @param {number} owner
 */
function base(to, runtime, owner) {
  to.root()
  for (const path of ['/app/parts', '/data', '/dev', '/etc', '/home/user', '/proc', '/sys', '/var/cache'])
    to.mkdir(path)
  for (const { source, target } of runtime) to.copy(source, target, 0o755)
  const here = dirname(fileURLToPath(import.meta.url))
  to.copy(join(here, 'program.mjs'), PROGRAM, 0o644)
  to.copy(join(here, 'tree.mjs'), '/app/tree.mjs', 0o644)
  to.write('/etc/release', 'layer 1\n')
  to.write('/app/deleted-in-the-container', 'still there\n')
  to.write('/var/cache/1', 'cached by layer 1\n')
  to.write('/home/user/notes.txt', `owned by ${owner}\n`, owner)
}

/**
 * What layer `n` changes: a file of its own always, and by turns a deletion, a replacement and a directory
 * that hides the one below.
 * @param {Recorder} to
 * @param {number} n
 * @param {number} layers
 */
function commit(to, n, layers) {
  to.write(part(n), `part of layer ${n}\n`)
  to.write('/etc/release', `layer ${n} of ${layers}\n`)
  if (n % 3 === 0) to.remove(part(n - 1))
  if (n % 5 === 0) to.write(part(n - 2), `part of layer ${n - 2}, replaced by layer ${n}\n`)
  if (n % 4 === 0) to.write('/app/tree.mjs', `${to.read('/app/tree.mjs')}// touched by layer ${n}\n`)
  if (n % 10 === 0) to.replaceDirectory('/var/cache')
  to.write(`/var/cache/${n}`, `cached by layer ${n}\n`)
}

/** @param {number} n */
function part(n) {
  return `/app/parts/${String(n).padStart(3, '0')}.txt`
}

/** @param {string} layer @returns {number} deletions recorded in it, each a character device 0:0 */
function countWhiteouts(layer) {
  const entries = readdirSync(layer, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isCharacterDevice()).length
}

/** Makes changes below a root, and keeps its own record of what the merged tree must be. */
class Recorder {
  /** @type {Map<string, import('./tree.mjs').Entry>} */
  merged = new Map()
  files = 0
  replaced = 0
  opaque = 0
  #root = ''

  /** @param {string} root where the next changes are made @returns {Recorder} itself */
  at(root) {
    this.#root = root
    return this
  }

  root() {
    this.merged.set('/', { type: 'dir', mode: 0o755, uid: 0, gid: 0, size: 0 })
  }

  /** @param {string} path made with its parents */
  mkdir(path) {
    if (this.merged.has(path)) return
    this.mkdir(dirname(path))
    mkdirSync(this.#root + path)
    // a runtime mounts its own there, so the program does not look at them
    if (['/dev', '/proc', '/sys'].includes(path)) return
    this.merged.set(path, { type: 'dir', mode: 0o755, uid: 0, gid: 0, size: 0 })
  }

  /** @param {string} path @param {string} text @param {number} [owner] */
  write(path, text, owner = 0) {
    if (this.merged.has(path)) this.replaced++
    else this.files++
    writeFileSync(this.#root + path, text)
    if (owner !== 0) chownSync(this.#root + path, owner, owner)
    this.merged.set(path, fileEntry(Buffer.from(text), { owner }))
  }

  /** @param {string} path @returns {string} */
  read(path) {
    return String(this.merged.get(path)?.content)
  }

  /** @param {string} source on this machine @param {string} target in the image @param {number} mode */
  copy(source, target, mode) {
    this.mkdir(dirname(target))
    copyFileSync(source, this.#root + target)
    chmodSync(this.#root + target, mode)
    this.merged.set(target, fileEntry(readFileSync(source), { mode }))
  }

  /** @param {string} path */
  remove(path) {
    rmSync(this.#root + path)
    this.merged.delete(path)
  }

  /** Deletes a directory of the layers below and makes an empty one: opaque, as overlayfs calls it. @param {string} path */
  replaceDirectory(path) {
    rmSync(this.#root + path, { recursive: true })
    mkdirSync(this.#root + path)
    for (const name of this.merged.keys()) if (name.startsWith(`${path}/`)) this.merged.delete(name)
    this.opaque++
  }
}
