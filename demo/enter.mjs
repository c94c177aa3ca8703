/**
 * Brings the demo into a place where it can do no harm: a mount namespace of its own.
 *
 * The outer process makes one temporary directory, starts this script again under util-linux' unshare,
 * and removes the directory when that has ended, however it ended: mounts end with the namespace.
 * The ways, best first:
 *
 *   root                       a private mount namespace
 *   a user with /etc/subuid    a user namespace with 65,536 ids (newuidmap), a mount namespace in it
 *   any user                   a user namespace with a single id, a mount namespace in it
 */
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, realpathSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { added, mountPoints, removeDirectory } from './cleanup.mjs'

const MARK = 'OVERLAYFD_DEMO_DIRECTORY'

const WAYS = [
  ['--mount', '--propagation', 'private'],
  ['--mount', '--propagation', 'private', '--user', '--map-root-user', '--map-auto'],
  ['--mount', '--propagation', 'private', '--user', '--map-root-user'],
]

/** A failure that needs no stack trace: the message says it all. */
export class DemoError extends Error {}

/** @returns {string | undefined} in the inner process the temporary directory */
export function insideOf() {
  const directory = process.env[MARK]
  delete process.env[MARK]
  return directory
}

/**
 * Runs this script again inside, and cleans up behind it.
 * @param {string | undefined} parent where to make the directory; default: the system's temporary directory
 * @returns {Promise<{ code: number, left: string[] }>} exit code, and what is left behind (nothing, that is)
 */
export async function enter(parent) {
  const way = WAYS.find((args) => spawnSync('unshare', [...args, 'true']).status === 0)
  if (!way) throw new DemoError(whyNot())
  if (parent !== undefined && way.includes('--user')) {
    throw new DemoError(
      '--dir needs root: in a user namespace only filesystems mounted there can be idmapped',
    )
  }
  const mountsBefore = mountPoints()
  const directory = mkdtempSync(join(reachable(parent), 'overlayfd-demo-'))
  try {
    // ids of the containers walk through it to their root filesystems
    chmodSync(directory, 0o711)
    const code = await inner(way, directory)
    removeDirectory(directory)
    const left = added(mountsBefore, mountPoints())
    return { code, left: left.map((point) => `mount ${point}`) }
  } catch (error) {
    removeDirectory(directory)
    throw error
  }
}

/** @param {string[]} args of unshare @param {string} directory @returns {Promise<number>} exit code */
function inner(args, directory) {
  const script = process.argv.slice(1)
  const env = { ...process.env, [MARK]: directory }
  const child = spawn('unshare', [...args, process.execPath, ...process.execArgv, ...script], {
    env,
    stdio: 'inherit',
  })
  // a terminal sends these to both processes: this one stays, to clean up
  const wait = () => {}
  const pass = () => child.kill('SIGTERM')
  process.on('SIGINT', wait).on('SIGTERM', pass).on('SIGHUP', pass)
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      process.off('SIGINT', wait).off('SIGTERM', pass).off('SIGHUP', pass)
      resolve(code ?? (signal === 'SIGINT' ? 130 : 143))
    })
  })
}

/**
 * @param {string | undefined} wanted
 * @returns {string} a directory that every user can walk to, as the containers' users must
 */
function reachable(wanted) {
  for (const candidate of wanted === undefined ? [tmpdir(), '/tmp', '/var/tmp'] : [wanted]) {
    const path = realpathSync(candidate)
    if (open(path)) return path
  }
  throw new DemoError(
    `${wanted ?? tmpdir()}: the users of the containers must be able to walk to it (mode o+x, all parents too)`,
  )
}

/** @param {string} path @returns {boolean} */
function open(path) {
  return (statSync(path).mode & 0o001) !== 0 && (path === '/' || open(dirname(path)))
}

/** @returns {string} why none of the ways works */
function whyNot() {
  const { error, stderr } = spawnSync('unshare', ['--user', '--map-root-user', '--mount', 'true'], {
    encoding: 'utf8',
  })
  if (error) return `the demo needs unshare, a part of util-linux: ${error.message}`
  const refused = `user namespaces are not permitted here (${stderr.trim()})`
  if (process.getuid?.() !== 0) return `${refused}: only root can run the demo`
  return `${refused}, and this root may not mount, as in most containers: it has no CAP_SYS_ADMIN`
}
