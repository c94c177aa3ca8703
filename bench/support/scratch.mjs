/**
 * Places to mount on that cannot outlive the benchmark: a mount namespace of its own, and a tmpfs in it.
 *
 *   enter()            the outer process: one temporary directory, this script again under unshare(1), and the
 *                      directory removed however that ends. Mounts end with the namespace
 *   insideOf()         in the inner process: that directory
 *   Scratch.open(dir)  a tmpfs there: layers, containers, a long mount table
 *
 * A process that measures has a namespace of its own again (`OWN_NAMESPACE` before its command), so that what it
 * leaves in the mount table is gone before the next one starts. Nothing here loads the library: one of the trials
 * measures how long that takes.
 */
import { execFileSync, spawn } from 'node:child_process'
import { chownSync, mkdirSync, mkdtempSync, rmdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BenchError } from './child.mjs'

const MARK = 'OVERLAYFD_BENCH_DIRECTORY'

/** Before a command: runs it in a mount namespace of its own, as the same process. */
export const OWN_NAMESPACE = ['unshare', '--mount', '--propagation', 'private']

/** The id outside of a container's root, and how many ids it has. */
export const FIRST_ID = 100_000
export const IDS = 65_536

/** @param {number} outside the first id @returns {object} an `idmap` option of IDS ids, the same for users and groups */
export function mappingFrom(outside) {
  const extents = [{ inside: 0, outside, length: IDS }]
  return { uid: extents, gid: extents }
}

/** @returns {string | undefined} in the inner process the directory that the outer one made */
export function insideOf() {
  return process.env[MARK]
}

/**
 * Runs this script again in a mount namespace of its own.
 * @returns {Promise<number>} its exit code
 */
export async function enter() {
  if (process.getuid?.() !== 0) throw new BenchError('mounting needs root: run it as root')
  const directory = mkdtempSync(join(tmpdir(), 'overlayfd-bench-'))
  try {
    return await inner(directory)
  } finally {
    rmdirSync(directory) // all that was in it was in the tmpfs that the namespace took along
  }
}

/** @param {string} directory @returns {Promise<number>} exit code */
function inner(directory) {
  const [command = '', ...args] = [
    ...OWN_NAMESPACE,
    process.execPath,
    ...process.execArgv,
    ...process.argv.slice(1),
  ]
  const child = spawn(command, args, { env: { ...process.env, [MARK]: directory }, stdio: 'inherit' })
  // this process stays, to clean up when the other has ended
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill('SIGTERM'))
  return new Promise((resolve, reject) => {
    child.on('error', (error) => reject(new BenchError(`unshare, of util-linux: ${error.message}`)))
    child.on('exit', (code) => resolve(code ?? 1))
  })
}

/** @typedef {{ upperdir: string, workdir: string, target: string }} Container three directories of one container */

/** A tmpfs of this process's mount namespace. */
export class Scratch {
  /** @param {string} directory */
  constructor(directory) {
    this.directory = directory
  }

  /**
   * Mounts it; only in a mount namespace of one's own.
   * @param {string} directory is made if it is missing
   */
  static open(directory) {
    mkdirSync(directory, { recursive: true })
    // by count, not by memory: 20,000 directories are many inodes and hardly any bytes
    util('mount', '-n', '-t', 'tmpfs', '-o', 'mode=755,nr_inodes=0', 'overlayfd-bench', directory)
    return new Scratch(directory)
  }

  /** @param {...string} names @returns {string} */
  path(...names) {
    return join(this.directory, ...names)
  }

  /** @param {...string} names @returns {string} a directory, made with its parents */
  mkdir(...names) {
    const path = this.path(...names)
    mkdirSync(path, { recursive: true })
    return path
  }

  /**
   * Layers as an image store has them: `layers/N/fs`, each with a file of its own, N from 0 for the topmost.
   * @param {number} count
   * @returns {string[]} in lowerdir's order, topmost first
   */
  layers(count) {
    return Array.from({ length: count }, (_, n) => {
      const layer = this.mkdir('layers', String(n), 'fs')
      writeFileSync(join(layer, `f${n}`), '')
      return layer
    })
  }

  /**
   * Directories `c/N/{upperdir,workdir,target}`; upper and work belong to the mapped root.
   * @param {number} count
   * @param {number} [owner] default FIRST_ID; 0 where nothing is idmapped
   * @returns {Container[]}
   */
  containers(count, owner = FIRST_ID) {
    return Array.from({ length: count }, (_, n) => {
      const at = (/** @type {string} */ name) => this.mkdir('c', String(n), name)
      const container = { upperdir: at('upperdir'), workdir: at('workdir'), target: at('target') }
      for (const name of ['upperdir', 'workdir']) chownSync(container[name], owner, owner)
      return container
    })
  }

  /**
   * Makes the mount table long: bind mounts, each on a directory of its own. They are made a group at a time, by
   * recursive bind mounts of the first group, since 20,000 mount(2) one by one take 10 s and this takes 50 ms.
   * @param {number} entries how many, a multiple of 100
   */
  async mountTable(entries) {
    const group = 100
    if (entries % group !== 0) throw new RangeError(`entries must be a multiple of ${group}, not ${entries}`)
    if (entries === 0) return
    const { mount, MS_BIND, MS_REC } = await import('../../dist/sys.js')
    const first = this.path('table', '0')
    for (const name of ['', ...Array.from({ length: group - 1 }, (_, n) => String(n))]) {
      const path = join(first, name)
      mkdirSync(path, { recursive: true })
      mount(path, path, null, MS_BIND)
    }
    for (let n = 1; n < entries / group; n++) {
      const path = this.path('table', String(n))
      mkdirSync(path)
      mount(first, path, null, [MS_BIND, MS_REC])
    }
  }

  /** Takes it away with all that is mounted below. */
  close() {
    util('umount', '-n', '-l', this.directory)
  }
}

/** @param {string} program @param {...string} args */
function util(program, ...args) {
  try {
    execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  } catch (error) {
    throw new BenchError(`${program}, of util-linux: ${/** @type {Error} */ (error).message.trim()}`)
  }
}
