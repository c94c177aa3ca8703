/**
 * Looks into the kernel during one storm: bpftrace starts it, and writes JSON when it ends (trace.bt).
 *
 * It may not be permitted, or not be there; then nothing is known of the locks, and why is what is answered. tracefs
 * is mounted in this process's own mount namespace where it is not mounted yet.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BenchError, runChild } from '../support/child.mjs'
import { waitOf } from './locks.mjs'

const SCRIPT = fileURLToPath(new URL('trace.bt', import.meta.url))
const TRACEFS = '/sys/kernel/tracing'

/**
 * @typedef {object} Traced
 * @property {(import('./locks.mjs').Wait & { count: number, nanoseconds: number })[]} waits
 * @property {number} gracePeriods expedited ones, of the whole host
 * @property {string} rest what the traced program wrote itself
 */

/** Why it cannot be traced here; undefined if nothing is against it. Mounts tracefs. @returns {string | undefined} */
export const whyNotTraced = () => {
  try {
    execFileSync('bpftrace', ['--version'], { stdio: 'ignore' })
  } catch {
    return 'bpftrace is not installed'
  }
  try {
    if (!existsSync(`${TRACEFS}/events`)) {
      execFileSync('mount', ['-n', '-t', 'tracefs', 'tracefs', TRACEFS], {
        stdio: ['ignore', 'ignore', 'pipe'],
      })
    }
  } catch (error) {
    return `tracefs cannot be mounted: ${error.message.trim().split('\n').at(-1)}`
  }
  return existsSync(`${TRACEFS}/events/lock/contention_begin`)
    ? undefined
    : 'this kernel has no tracepoint lock:contention_begin (Linux 5.19, CONFIG_FTRACE)'
}

/**
 * @param {string[]} command
 * @param {{ directory: string, what: string }} options a directory to start in
 * @returns {Promise<Traced>}
 */
export const traced = async (command, { directory, what }) => {
  // bpftrace cuts the command at its spaces, and knows no quotes
  const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')
  writeFileSync(join(directory, 'traced.sh'), `exec ${quoted}\n`)
  const text = await runChild('bpftrace', ['-f', 'json', '-c', '/bin/sh traced.sh', SCRIPT], {
    cwd: directory,
    env: { ...process.env, BPFTRACE_MAP_KEYS_MAX: '65536' },
    seconds: 60,
    what,
  })
  return parseTrace(text)
}

/** What bpftrace wrote: a JSON object a line, and between them what the program wrote. @param {string} text @returns {Traced} */
export const parseTrace = (text) => {
  const rest = []
  const maps = {}
  for (const line of text.split('\n')) {
    const value = parseLine(line)
    if (value === undefined) rest.push(line)
    else if (value.type === 'map' || value.type === 'stats') Object.assign(maps, value.data)
  }
  if (maps['@work'] === undefined && maps['@waits'] === undefined) {
    throw new BenchError(`bpftrace wrote no maps: ${text.slice(0, 200)}`)
  }
  return {
    waits: Object.entries(maps['@waits'] ?? {}).map(([key, { count, total }]) => {
      const [flags = '', ...frames] = key.split('\n')
      const names = frames.map((frame) => frame.trim().replace(/\+\d+$/, '')).filter((name) => name !== '')
      return { ...waitOf(Number.parseInt(flags, 10), names), count, nanoseconds: total }
    }),
    gracePeriods: maps['@work']?.['wait_rcu_exp_gp'] ?? 0,
    rest: rest.join('\n'),
  }
}

/** Undefined for what is not bpftrace's. */
const parseLine = (line) => {
  if (!line.startsWith('{"type":')) return undefined
  try {
    return JSON.parse(line)
  } catch (error) {
    throw new BenchError(`bpftrace wrote ${JSON.stringify(line.slice(0, 100))}: ${error.message}`)
  }
}
