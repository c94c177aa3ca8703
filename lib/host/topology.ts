/**
 * What this machine's CPUs share, and which of them this process may use: from /sys and /proc, read only.
 *
 * Pure over a directory, so that a copy of another machine's files tells about that machine. Files that a kernel,
 * an architecture or a container lacks are no error: what they would have told is undefined, or replaced by the
 * next best, and `notes` says so. The parts are in topology/, one file each; what the library makes of it for its
 * own threads is in topology/placement.ts.
 */
import { checkKeys, checkText } from '../check.js'
import { invalidArgValue } from '../errors.js'
import { readAffinity, readAllowed } from './topology/allowed.js'
import { placeIn, readCores, readPackages, readStates } from './topology/cpus.js'
import { readL3Domains } from './topology/l3.js'
import { readNodes } from './topology/nodes.js'
import { Tree } from './topology/tree.js'

/** CPUs, as the numbers that the kernel gives them, ascending. */
export type CpuSet = readonly number[]

/** A physical package: a socket, in most machines. */
export interface Package {
  /** the kernel's id, which may be any number; undefined where firmware does not tell */
  readonly id: number | undefined
  readonly cpus: CpuSet
}

/** A NUMA node that is online. */
export interface NumaNode {
  readonly id: number
  /** none for memory of its own right, as behind a CXL link */
  readonly cpus: CpuSet
  /** bytes that the kernel manages; 0 for a node without memory */
  readonly memory: number | undefined
  /**
   * To each node, itself included, by id: the kernel's figures, 10 for itself and more for farther, which are
   * relative and in no unit (ACPI SLIT). Empty where unknown.
   */
  readonly distances: readonly { readonly node: number; readonly distance: number }[]
}

/** CPUs that share a level-3 cache, or what stands in where none is described. */
export interface L3Domain {
  readonly from: 'cache' | 'cluster' | 'node' | 'package'
  /** the kernel's id of what `from` names; arm64 kernels give caches none */
  readonly id: number | undefined
  /** bytes of the cache */
  readonly size: number | undefined
  readonly cpus: CpuSet
}

/** A physical core: CPUs that are SMT siblings of each other, or one. */
export interface Core {
  /** the kernel's id, unique in a package at most */
  readonly id: number | undefined
  readonly cpus: CpuSet
  /** place in `packages` */
  readonly package: number
  /** place in `l3Domains` */
  readonly l3Domain: number
  /** place in `nodes`; undefined where no node has it */
  readonly node: number | undefined
}

/** A limit that is set by a cgroup. */
export interface Cpuset {
  /** of the cgroup hierarchy */
  readonly version: 1 | 2
  /** the cgroup that sets it: the process's own, or its nearest ancestor that has cpuset files */
  readonly cgroup: string
  /** its effective CPUs, which are also within the limits of all its ancestors */
  readonly cpus: CpuSet
}

export interface AllowedCpus {
  /** CPUs that are online and in both `affinity` and `cpuset` */
  readonly cpus: CpuSet
  /** of the calling thread; may name CPUs that are not online. sched_getaffinity(2) */
  readonly affinity: CpuSet | undefined
  /** how far the process may widen that; undefined where no cgroup limits it or its limit is not to be seen */
  readonly cpuset: Cpuset | undefined
}

/** A machine. All arrays are ordered by first CPU, nodes by id; what is offline is in none but `offline`. */
export interface Topology {
  /** CPUs that run */
  readonly online: CpuSet
  /** present and switched off, of which nothing else can be known. CPUs that may be plugged in later are not here */
  readonly offline: CpuSet
  /** online, and left out by the scheduler when it spreads threads (isolcpus, isolated cpuset partitions) */
  readonly isolated: CpuSet
  /** sockets */
  readonly packages: readonly Package[]
  /** NUMA nodes, those without CPUs or without memory included */
  readonly nodes: readonly NumaNode[]
  /** CPUs that share a level-3 cache, or what stands in for one */
  readonly l3Domains: readonly L3Domain[]
  /** physical cores with their SMT siblings */
  readonly cores: readonly Core[]
  /** what of it this process may use */
  readonly allowed: AllowedCpus
  /** what is unknown or was assumed, in words; empty where the kernel told all */
  readonly notes: readonly string[]
}

/** Of `topology`. */
export interface TopologyOptions {
  /** directory that has `sys` and `proc` of the machine to read, default `/`; a copy made by hwloc-gather-topology will do */
  root?: string
}

/**
 * Reads the topology: packages, NUMA nodes, L3 domains, cores, offline CPUs, and what this process may use.
 *
 * Nothing is kept: each call reads anew, because CPUs go offline and cpusets change. The result is plain data and
 * survives JSON. Synchronous: about 20 small files, 2 a core and 8 a cache, which are 10 ms at 128 cores.
 *
 * @returns what was found; for a directory that holds no machine, one without CPUs and with notes
 * @throws TypeError for wrong options · SyscallError EMFILE, ENFILE, ENOMEM: no room to read
 * @see sched_getaffinity(2), cpuset(7), Documentation/admin-guide/cputopology.rst
 */
export function topology(options: TopologyOptions = {}): Topology {
  const tree = new Tree(rootOf(options))
  const { online, offline, isolated } = readStates(tree)
  const allowed = readAllowed(tree, online, readAffinity(tree))
  const packages = readPackages(tree, online)
  const nodes = readNodes(tree, online)
  const groups = readCores(tree, online)
  const l3Domains = readL3Domains(tree, online, { packages, nodes, cores: groups })

  const [packageOf, domainOf, nodeOf] = [placeIn(packages), placeIn(l3Domains), placeIn(nodes)]
  const cores = groups.map(({ id, cpus }) => {
    const first = cpus[0]!
    // each CPU that is online is in a package and in a domain
    return { id, cpus, package: packageOf(first)!, l3Domain: domainOf(first)!, node: nodeOf(first) }
  })
  return { online, offline, isolated, packages, nodes, l3Domains, cores, allowed, notes: tree.notes }
}

function rootOf(options: unknown): string {
  const { root = '/' } = checkKeys(options, 'options', ['root'])
  if (root === '') throw invalidArgValue('options.root', root, 'must not be empty')
  return checkText(root, 'options.root')
}
