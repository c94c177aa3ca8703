/**
 * Machines as directories: the files of /sys and /proc that tell about CPUs, written below a temporary directory
 * from a short description of who is where, as Linux writes them: what is offline has no topology and is in no
 * list, and each set is there as a list and as a mask. hwloc reads such a directory too (`lstopo -i`).
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { formatCpuList } from '../../lib/host/topology/cpu-list.js'
import type { Teardown } from './scratch.js'

export interface FakeCpu {
  readonly cpu: number
  readonly package: number
  /** the kernel's core_id: unique in a package */
  readonly core: number
  /** CPUs of one number share a level-3 cache; without it this CPU has none */
  readonly l3?: number
  readonly cluster?: number
  readonly node?: number
  readonly isOffline?: boolean
}

export interface Machine {
  readonly cpus: readonly FakeCpu[]
  /** id → kB of memory; default: those the CPUs are on, a GB each. `[]`: a kernel without NUMA */
  readonly nodes?: readonly (readonly [id: number, kilobytes: number])[]
  readonly distance?: (from: number, to: number) => number
  /** of each level-3 cache; 16 MiB unless told */
  readonly l3Kilobytes?: number
  /** arm64 kernels give caches no ids */
  readonly hasNoCacheIds?: boolean
  /** CPUs that could be plugged in, counted from 0, whether present or not */
  readonly possible?: number
  /** more files, or others than the above; null: left out, with what is below it */
  readonly files?: Readonly<Record<string, string | null>>
}

export interface Grid {
  readonly packages?: number
  /** level-3 caches in a package */
  readonly caches?: number
  /** cores at each of them */
  readonly cores: number
  readonly threads?: number
  /** siblings have neighbouring numbers; unless told, the second ones come after all the first ones */
  readonly isAdjacent?: boolean
}

/** A regular machine with a node a package, CPUs numbered from 0 in the order of what they are in. */
export const grid = ({
  packages = 1,
  caches = 1,
  cores,
  threads = 1,
  isAdjacent = false,
}: Grid): FakeCpu[] => {
  const all = packages * caches * cores
  return Array.from({ length: all * threads }, (_, cpu) => {
    const core = isAdjacent ? Math.floor(cpu / threads) : cpu % all
    const l3 = Math.floor(core / cores)
    const which = Math.floor(l3 / caches)
    return { cpu, package: which, core: core % (caches * cores), l3, node: which }
  })
}

const GIGABYTE = 1024 * 1024

const list = formatCpuList

const mask = (cpus: readonly number[]): string => {
  const words = Array.from({ length: Math.floor(Math.max(31, ...cpus) / 32) + 1 }, () => 0)
  for (const cpu of cpus) words[cpu >> 5] = (words[cpu >> 5]! | (1 << (cpu & 31))) >>> 0
  return words
    .reverse()
    .map((word) => word.toString(16).padStart(8, '0'))
    .join(',')
}

const describeCpu = (at: FakeCpu, online: readonly FakeCpu[], machine: Machine): Record<string, string> => {
  const dir = `sys/devices/system/cpu/cpu${at.cpu}`
  const files: Record<string, string> = at.cpu === 0 ? {} : { [`${dir}/online`]: '1' }
  const together = (isWith: (other: FakeCpu) => boolean): number[] =>
    online.filter(isWith).map(({ cpu }) => cpu)
  const both = (file: string, cpus: number[], list_ = `${file}_list`): void => {
    files[`${dir}/${file}`] = mask(cpus)
    files[`${dir}/${list_}`] = list(cpus)
  }
  const siblings = together((other) => other.package === at.package && other.core === at.core)
  const inPackage = together((other) => other.package === at.package)
  const cluster = together((other) => other.package === at.package && other.cluster === at.cluster)
  files[`${dir}/topology/physical_package_id`] = `${at.package}`
  files[`${dir}/topology/core_id`] = `${at.core}`
  files[`${dir}/topology/cluster_id`] = `${at.cluster ?? -1}`
  both('topology/package_cpus', inPackage)
  both('topology/core_siblings', inPackage)
  both('topology/core_cpus', siblings)
  both('topology/thread_siblings', siblings)
  both('topology/cluster_cpus', at.cluster === undefined ? siblings : cluster)

  // no level 1: a few files less, and an index is no level then
  const caches = [
    { level: 2, type: 'Unified', size: 1024, cpus: siblings },
    ...(at.l3 === undefined
      ? []
      : [
          {
            level: 3,
            type: 'Unified',
            size: machine.l3Kilobytes ?? 16384,
            cpus: together((other) => other.l3 === at.l3),
          },
        ]),
  ]
  for (const [index, { level, type, size, cpus }] of caches.entries()) {
    files[`${dir}/cache/index${index}/level`] = `${level}`
    files[`${dir}/cache/index${index}/type`] = type
    files[`${dir}/cache/index${index}/size`] = `${size}K`
    both(`cache/index${index}/shared_cpu_map`, cpus, `cache/index${index}/shared_cpu_list`)
    if (machine.hasNoCacheIds !== true) {
      files[`${dir}/cache/index${index}/id`] = `${level === 3 ? at.l3 : siblings[0]}`
    }
  }
  return files
}

const describeNodes = (online: readonly FakeCpu[], machine: Machine): Record<string, string> => {
  const ofCpus = new Set(online.flatMap(({ node }) => (node === undefined ? [] : [node])))
  const nodes = machine.nodes ?? [...ofCpus].sort((a, b) => a - b).map((id) => [id, GIGABYTE] as const)
  if (nodes.length === 0) return {}
  const system = 'sys/devices/system/node'
  const { distance = (from, to) => (from === to ? 10 : 20) } = machine
  const files: Record<string, string> = { [`${system}/online`]: list(nodes.map(([id]) => id)) }
  for (const [id, kilobytes] of nodes) {
    const cpus = online.filter(({ node }) => node === id).map(({ cpu }) => cpu)
    const dir = `${system}/node${id}`
    files[`${dir}/cpumap`] = mask(cpus)
    files[`${dir}/cpulist`] = list(cpus)
    files[`${dir}/distance`] = nodes.map(([to]) => distance(id, to)).join(' ')
    files[`${dir}/meminfo`] = `Node ${id} MemTotal:       ${kilobytes} kB\nNode ${id} MemFree:        0 kB`
  }
  return files
}

/** Files of a machine, path → text without the last newline. */
export const describeMachine = (machine: Machine): Map<string, string> => {
  const online = machine.cpus.filter(({ isOffline }) => isOffline !== true)
  const numbers = (cpus: readonly FakeCpu[]): number[] => cpus.map(({ cpu }) => cpu)
  const system = 'sys/devices/system/cpu'
  const possible = Array.from(
    { length: machine.possible ?? Math.max(...numbers(machine.cpus)) + 1 },
    (_, i) => i,
  )
  const files = new Map<string, string>(
    Object.entries({
      [`${system}/online`]: list(numbers(online)),
      [`${system}/present`]: list(numbers(machine.cpus)),
      [`${system}/possible`]: list(possible),
      [`${system}/offline`]: list(possible.filter((cpu) => !numbers(online).includes(cpu))),
      [`${system}/isolated`]: '',
      'proc/cpuinfo': numbers(online)
        .map((cpu) => `processor\t: ${cpu}\n`)
        .join('\n'),
      'proc/meminfo': `MemTotal:       ${GIGABYTE} kB`,
      'proc/mounts': '',
      'proc/thread-self/status': `Name:\tnode\nCpus_allowed:\tff\nCpus_allowed_list:\t${list(possible)}`,
      'proc/thread-self/cgroup': '0::/',
      'proc/thread-self/mountinfo': '31 23 0:28 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate',
      'sys/fs/cgroup/cpuset.cpus.effective': list(numbers(online)),
      ...describeNodes(online, machine),
    }),
  )
  for (const at of machine.cpus) {
    if (at.isOffline) files.set(`${system}/cpu${at.cpu}/online`, '0')
    else for (const [file, text] of Object.entries(describeCpu(at, online, machine))) files.set(file, text)
  }
  for (const [file, text] of Object.entries(machine.files ?? {})) {
    for (const other of files.keys()) if (other === file || other.startsWith(`${file}/`)) files.delete(other)
    if (text !== null) files.set(file, text)
  }
  return files
}

/** Writes files below a directory, each with a newline at its end. */
export const writeFiles = (root: string, files: ReadonlyMap<string, string>): void => {
  for (const dir of new Set([...files.keys()].map(dirname))) mkdirSync(join(root, dir), { recursive: true })
  for (const [file, text] of files) writeFileSync(join(root, file), `${text}\n`)
}

/** Writes a machine; the directory, which goes in teardown. */
export const machineTree = (t: Teardown, machine: Machine): string => {
  const root = mkdtempSync(join(tmpdir(), 'overlayfd-topology-'))
  t.teardown(() => rmSync(root, { recursive: true }))
  writeFiles(root, describeMachine(machine))
  return root
}
