/**
 * Where composing threads go: into one L3 domain, one thread a physical core, and few of them.
 *
 * Every mount takes locks that there are once in the kernel (namespace_sem, mount_lock). Passing such a lock on is
 * cheap while its line stays in one L3 cache and expensive across caches and sockets; two SMT siblings that wait
 * for it slow each other down; and with each further writer more time goes into passing it on, which all path
 * lookups of the host feel, because they watch mount_lock. So the threads stay together, and their number
 * has a bound that does not grow with the machine. Pure: a function of the topology and the caller's wishes.
 */
import { checkKeys } from '../../check.js'
import { invalidArgType, invalidArgValue, outOfRange } from '../../errors.js'
import type { CpuSet, L3Domain, Topology } from '../topology.js'
import { formatCpuList } from './cpu-list.js'

/** What the caller wants instead of what would be chosen. */
export interface PlacementOptions {
  /** composing threads, 1 to 256 */
  threads?: number
  /** CPUs that they may run on, of those that are online and in the cpuset; also some outside of the affinity */
  cpus?: readonly number[]
}

/** CPUs and number of the composing threads. */
export interface Placement {
  /** CPUs that they may run on, all of them on each; empty, which is no restriction, where no CPU is known */
  readonly cpus: CpuSet
  /** composing threads */
  readonly threads: number
  /** place in the topology's `l3Domains`; undefined where `cpus` are of several, or none at all is known */
  readonly l3Domain: number | undefined
  /** what was chosen and why, in words */
  readonly reason: string
}

/**
 * Composing threads at most, unless the caller says otherwise. Of a compose of 50 layers a sixth or more is under
 * locks of the whole host (by profile). By Amdahl's law four threads then do at most 2.7 times the work of one, and
 * each further one adds a third of itself or less, before what passing the locks on costs. That is a model: no
 * more than 2 CPUs were at hand; `npm run bench -- contention` finds a host's own best.
 */
export const maxComposers = 4

const mostThreads = 256
const known = ['threads', 'cpus']

/**
 * Chooses CPUs and number of the composing threads.
 *
 * Of the L3 domains, the one with the most physical cores that the process may use; of equal ones the one with the
 * lowest CPU number, so that all processes of a host that do this meet in the same one, as the locks are the same.
 * Where no two cores share such a cache, a NUMA node is chosen in the same way.
 *
 * The threads get one CPU of each of its cores, which may be more CPUs than threads: the scheduler then evades
 * other work. Isolated CPUs are left out if there are others.
 *
 * @param options `cpus`: exactly these, in whatever domains; `threads`: so many, beyond the bound too
 * @throws TypeError, RangeError for options that cannot be
 */
export function placeComposers(topology: Topology, options: PlacementOptions = {}): Placement {
  const { threads, cpus } = check(topology, options)
  return cpus === undefined ? choose(topology, threads) : given(topology, cpus, threads)
}

function choose(topology: Topology, asked: number | undefined): Placement {
  const { usable, remark } = usableCpus(topology)
  const [best, ...others] = areasOf(topology)
    .map((area, place) => ({ ...area, place, cores: coresIn(topology, area.cpus, usable) }))
    .sort((a, b) => b.cores.length - a.cores.length || a.place - b.place)
  if (best === undefined || best.cores.length === 0) {
    const threads = asked ?? 1
    return {
      cpus: [],
      threads,
      l3Domain: undefined,
      reason: `${count(threads, 'thread')}, on any CPU: none is known`,
    }
  }
  const { name, l3Domain, cores } = best
  const threads = asked ?? Math.min(cores.length, maxComposers)
  // then siblings are better than two threads that share one of them
  const isCrowded = threads > cores.length
  const cpus = ascending(isCrowded ? cores.flat() : cores.map((core) => core[0]!))

  const which = isCrowded ? 'all that may be used of' : cores.length === 1 ? 'of' : 'one on each of'
  const what = `${count(threads, 'thread')} on ${named(cpus)}, ${which} ${count(cores.length, 'physical core')}`
  const equal = others.filter((other) => other.cores.length === cores.length).length
  const why = [
    `${what} in ${name}, ${whyThis(others.length, equal)}`,
    ...remark,
    ...whySoMany(asked, cores.length),
  ]
  return { cpus, threads, l3Domain, reason: why.join('; ') }
}

interface Area {
  readonly name: string
  readonly cpus: CpuSet
  /** place in the topology, where it is one of those */
  readonly l3Domain: number | undefined
}

/**
 * What is to be chosen from: L3 domains. Where each core has a cache of its own (POWER8; virtual machines that
 * are told to have a socket a CPU) to stay in one would mean a single thread, and there is nothing to stay in.
 */
function areasOf({ l3Domains, cores, nodes, online }: Topology): Area[] {
  if (l3Domains.length < cores.length || cores.length < 2) {
    return l3Domains.map((domain, place) => ({ name: nameOf(domain), cpus: domain.cpus, l3Domain: place }))
  }
  const why = 'because no L3 cache is shared between cores'
  const inNodes = new Set(nodes.flatMap(({ cpus }) => cpus))
  if (inNodes.size < online.length) {
    return [{ name: `the machine, ${why}`, cpus: online, l3Domain: undefined }]
  }
  return nodes
    .filter(({ cpus }) => cpus.length > 0)
    .map(({ cpus }) => ({ name: `the node of ${named(cpus)}, ${why}`, cpus, l3Domain: undefined }))
}

function given(topology: Topology, cpus: readonly number[], asked: number | undefined): Placement {
  const chosen = new Set(cpus)
  const touched = topology.cores.filter((core) => core.cpus.some((cpu) => chosen.has(cpu)))
  const places = ascending(touched.map(({ l3Domain }) => l3Domain))
  const cores = Math.max(touched.length, 1)
  const threads = asked ?? Math.min(cores, maxComposers)
  const l3Domain = places.length === 1 ? places[0] : undefined
  const where =
    l3Domain === undefined
      ? `${count(places.length, 'L3 domain')}, between which locks are passed on slowly`
      : nameOf(topology.l3Domains[l3Domain]!)
  const what = `${count(threads, 'thread')} on ${named(cpus)}, as asked for`
  const reason = [
    `${what}: ${count(touched.length, 'physical core')} in ${where}`,
    ...whySoMany(asked, cores),
  ]
  return { cpus, threads, l3Domain, reason: reason.join('; ') }
}

function whyThis(others: number, equal: number): string {
  if (others === 0) return 'the only one'
  return equal === 0
    ? `of ${others + 1} the one with the most cores`
    : `the first of ${equal + 1} with the most cores`
}

function whySoMany(asked: number | undefined, cores: number): string[] {
  if (asked !== undefined) return ['the number of threads as asked for']
  if (cores <= maxComposers) return []
  return [`no more than ${maxComposers} threads, because mounts wait for locks of the whole host`]
}

/** The CPUs to choose from. Isolated ones were set aside for something else, and no thread is moved off them. */
function usableCpus({ allowed, isolated }: Topology): { usable: CpuSet; remark: string[] } {
  const apart = allowed.cpus.filter((cpu) => isolated.includes(cpu))
  if (apart.length === 0) return { usable: allowed.cpus, remark: [] }
  if (apart.length === allowed.cpus.length) {
    return {
      usable: apart,
      remark: ['all are isolated, so that the scheduler does not spread threads over them'],
    }
  }
  const usable = allowed.cpus.filter((cpu) => !apart.includes(cpu))
  return { usable, remark: [`without ${named(apart)}, which ${apart.length === 1 ? 'is' : 'are'} isolated`] }
}

/** Of each core in an area what may be used of it, where that is anything. */
function coresIn({ cores }: Topology, area: CpuSet, usable: CpuSet): number[][] {
  const isUsable = new Set(usable)
  const set = new Set(area.filter((cpu) => isUsable.has(cpu)))
  return cores.map(({ cpus }) => cpus.filter((cpu) => set.has(cpu))).filter((cpus) => cpus.length > 0)
}

function nameOf({ from, cpus }: L3Domain): string {
  return from === 'cache'
    ? `the L3 domain of ${named(cpus)}`
    : `the ${from} of ${named(cpus)}, for want of an L3 cache`
}

const named = (cpus: CpuSet): string => `CPU${cpus.length === 1 ? '' : 's'} ${formatCpuList(cpus)}`

const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? '' : 's'}`

const ascending = (numbers: readonly number[]): number[] => [...new Set(numbers)].sort((a, b) => a - b)

function check(topology: Topology, options: unknown): { threads?: number; cpus?: number[] } {
  const { threads, cpus } = checkKeys(options, 'options', known)
  if (threads !== undefined) {
    if (typeof threads !== 'number') throw invalidArgType('options.threads', 'number', threads)
    if (!Number.isInteger(threads) || threads < 1 || threads > mostThreads) {
      throw outOfRange('options.threads', `a whole number from 1 to ${mostThreads}`, threads)
    }
  }
  return { threads, cpus: cpus === undefined ? undefined : checkCpus(topology, cpus) }
}

function checkCpus({ online, allowed }: Topology, cpus: unknown): number[] {
  if (!Array.isArray(cpus)) throw invalidArgType('options.cpus', 'an array of CPU numbers', cpus)
  if (cpus.length === 0) throw invalidArgValue('options.cpus', cpus, 'must name at least one CPU')
  const cpuset = allowed.cpuset?.cpus
  const possible = cpuset === undefined ? online : online.filter((cpu) => cpuset.includes(cpu))
  return ascending(
    Array.from(cpus, (cpu: unknown, i) => {
      const name = `options.cpus[${i}]`
      if (typeof cpu !== 'number') throw invalidArgType(name, 'number', cpu)
      // the kernel would leave out silently what is not online or not in the cpuset
      if (!possible.includes(cpu)) {
        throw outOfRange(
          name,
          `a CPU that this process may use, of ${formatCpuList(possible) || 'none'}`,
          cpu,
        )
      }
      return cpu
    }),
  )
}
