/**
 * Runs the image's program in a container: new user, mount, pid, ipc and uts namespaces, and the root
 * filesystem that overlayfd composed.
 *
 *   runc      an OCI bundle, `runc run`
 *   unshare   where runc is missing: nsenter into a user namespace with the container's mapping, then
 *             unshare for the other namespaces and the change of root. Both are part of util-linux,
 *             which every distribution has. There is no /proc in it; node does without.
 */
import { spawn, spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DemoError } from './enter.mjs'
import { PROGRAM } from './image.mjs'
import { NODE } from './runtime-files.mjs'
import { openUserNamespace } from './userns.mjs'

/** The runtime failed, whatever the program in it would have done. */
export class RuntimeError extends DemoError {}

/** A container that takes longer hangs. Milliseconds. */
const TIME_LIMIT = 60_000

/**
 * @typedef {'runc' | 'unshare'} Runner
 *
 * @typedef {object} Container
 * @property {string} name
 * @property {string} rootfs where it is mounted
 * @property {import('./userns.mjs').Range} range its mapping
 * @property {string} directory an existing one for the runtime's own files
 * @property {string[]} args of the program
 * @property {Record<string, string>} env
 *
 * @typedef {{ pid: number, uid: number, tree: string[],
 *   hello: { uid: number, gid: number }, given: { uid: number } }} Report what the program prints
 */

/**
 * @param {Runner | undefined} wanted
 * @returns {Runner[]} what to try, in this order
 */
export function runners(wanted) {
  const installed = spawnSync('runc', ['--version']).status === 0
  if (wanted === 'runc' && !installed) throw new DemoError('runc is not installed')
  if (wanted) return [wanted]
  return installed ? ['runc', 'unshare'] : ['unshare']
}

/**
 * @param {Runner} runner
 * @param {Container} container
 * @returns {Promise<Report>}
 */
export async function runProgram(runner, container) {
  const output = await (runner === 'runc' ? withRunc(container) : withUnshare(container))
  try {
    return JSON.parse(output)
  } catch {
    throw new Error(
      `${container.name}: the program printed something else than its report: ${output.slice(0, 200)}`,
    )
  }
}

/** @param {Container} container @returns {Promise<string>} */
async function withRunc(container) {
  const bundle = join(container.directory, 'bundle')
  const state = join(container.directory, 'runc')
  mkdirSync(bundle)
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(ociConfig(container)))
  try {
    return await output('runc', ['--root', state, 'run', '--bundle', bundle, container.name], process.env)
  } catch (error) {
    spawnSync('runc', ['--root', state, 'delete', '--force', container.name])
    throw error
  }
}

/** @param {Container} container @returns {object} OCI runtime configuration, as small as runc allows */
function ociConfig({ name, rootfs, range, args, env }) {
  const mappings = [{ containerID: range.inside, hostID: range.outside, size: range.length }]
  const capabilities = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER']
  return {
    ociVersion: '1.0.2',
    hostname: name,
    root: { path: rootfs },
    process: {
      args: [NODE, PROGRAM, ...args],
      env: Object.entries(env).map(([key, value]) => `${key}=${value}`),
      cwd: '/',
      user: { uid: 0, gid: 0 },
      noNewPrivileges: true,
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=64k'] },
    ],
    linux: {
      uidMappings: mappings,
      gidMappings: mappings,
      namespaces: ['user', 'mount', 'pid', 'ipc', 'uts'].map((type) => ({ type })),
    },
  }
}

/** @param {Container} container @returns {Promise<string>} */
async function withUnshare({ rootfs, range, args, env }) {
  const usernsFd = await openUserNamespace([range])
  // with a single id there is no right to set groups, and none to change: it is root's already
  const identity = range.length === 1 ? ['--preserve-credentials'] : ['--setuid', '0', '--setgid', '0']
  const enter = ['--user=/proc/self/fd/3', ...identity]
  const separate = [
    'unshare',
    '--mount',
    '--pid',
    '--ipc',
    '--uts',
    '--fork',
    '--kill-child',
    `--root=${rootfs}`,
  ]
  const path = { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin' }
  try {
    return await output(
      'nsenter',
      [...enter, ...separate, NODE, PROGRAM, ...args],
      { ...path, ...env },
      usernsFd,
    )
  } finally {
    closeSync(usernsFd)
  }
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @param {number} [extraFd] is fd 3 of the command
 * @returns {Promise<string>} what it wrote to stdout
 */
function output(command, args, env, extraFd) {
  return new Promise((resolve, reject) => {
    /** @type {import('node:child_process').StdioOptions} */
    const stdio = extraFd === undefined ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'pipe', 'pipe', extraFd]
    const child = spawn(command, args, {
      env,
      stdio,
      timeout: TIME_LIMIT,
      killSignal: 'SIGKILL',
    })
    let text = ''
    let complaint = ''
    child.stdout?.setEncoding('utf8').on('data', (chunk) => {
      text += chunk
    })
    child.stderr?.setEncoding('utf8').on('data', (chunk) => {
      complaint += chunk
    })
    child.on('error', (error) => reject(new RuntimeError(`${command}: ${error.message}`)))
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(text)
      const why = signal === 'SIGKILL' ? `killed after ${TIME_LIMIT / 1000} s` : `exit code ${code}`
      reject(
        new RuntimeError(
          `${command} failed (${why}): ${complaint.trim().split('\n').slice(0, 4).join(' · ')}`,
        ),
      )
    })
  })
}
