/**
 * The machine, as far as a result means something only together with it. No name, no address, no path: results are
 * published.
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { BenchError } from './child.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))

/**
 * @typedef {object} Machine
 * @property {string} cpu the model
 * @property {number} cpus that are online
 * @property {number} cores physical ones
 * @property {number} sockets
 * @property {number} l3Domains groups of CPUs that share a level-3 cache, or what stands in for it
 * @property {string} l3From what they were found by: cache, cluster, node, package
 * @property {number} nodes NUMA nodes
 * @property {number} allowedCpus CPUs that this process may use
 * @property {number} memory bytes
 * @property {string} kernel release
 * @property {string} arch
 * @property {string} node version
 * @property {string | undefined} commit undefined outside of a git checkout
 * @property {boolean | undefined} isDirty whether anything but results differs from the commit
 * @property {number} load average of the last minute: what else was going on
 * @property {string} date ISO 8601
 */

/** @returns {Promise<Machine>} */
export async function describeMachine() {
  const dist = new URL('../../dist/index.js', import.meta.url)
  if (!existsSync(dist))
    throw new BenchError('the library is not built yet: npm ci does that, or npm run build')
  const { topology } = await import(dist.href)
  const { online, cores, packages, l3Domains, nodes, allowed } = topology()
  return {
    cpu: cpus()[0]?.model.trim() || 'unknown',
    cpus: online.length,
    cores: cores.length,
    sockets: packages.length,
    l3Domains: l3Domains.length,
    l3From: [...new Set(l3Domains.map(({ from }) => from))].join(', '),
    nodes: nodes.length,
    allowedCpus: allowed.cpus.length,
    memory: totalmem(),
    kernel: release(),
    arch: process.arch,
    node: process.version,
    ...commitOf(),
    load: loadavg()[0],
    date: new Date().toISOString(),
  }
}

/** @param {Machine} machine @returns {string[]} lines of a Markdown list */
export function machineLines(machine) {
  const { cpu, cpus: count, cores, sockets, l3Domains, l3From, nodes, allowedCpus } = machine
  const allowed = allowedCpus === count ? '' : `; this process may use ${allowedCpus}`
  const state = machine.isDirty ? ', with uncommitted changes' : ''
  return [
    `- CPU: ${cpu}, ${count} CPUs on ${cores} cores, ${sockets} ${plural(sockets, 'socket')}, ${nodes} NUMA ${plural(nodes, 'node')}, ${l3Domains} L3 ${plural(l3Domains, 'domain')} (by ${l3From})${allowed}`,
    `- memory: ${Math.round(machine.memory / 2 ** 30)} GiB`,
    `- Linux ${machine.kernel}, ${machine.arch}; Node ${machine.node}`,
    `- commit: ${machine.commit ?? 'not a git checkout'}${state}`,
    `- date: ${machine.date}; load average at the beginning: ${machine.load.toFixed(2)}`,
  ]
}

/** @param {number} count @param {string} word */
function plural(count, word) {
  return count === 1 ? word : `${word}s`
}

/** @returns {{ commit: string | undefined, isDirty: boolean | undefined }} */
function commitOf() {
  const git = (/** @type {string[]} */ ...args) =>
    // without the optional lock, looking does not rewrite the index under somebody's hands
    execFileSync('git', ['--no-optional-locks', ...args], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  try {
    const commit = git('rev-parse', 'HEAD')
    return { commit, isDirty: git('status', '--porcelain', '--', '.', ':!bench/results') !== '' }
  } catch {
    return { commit: undefined, isDirty: undefined }
  }
}
