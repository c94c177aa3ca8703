/**
 * CPUs, and the packages and cores they are in.
 *
 * Groups are read as the kernel tells them, "CPU 5 is in one package with 0-7", and made a partition: a CPU is in
 * exactly one. One file speaks for all CPUs that it names, so that a machine with hundreds of them is read in a
 * file or two a group and not in ten files a CPU.
 *
 * @see Documentation/admin-guide/cputopology.rst, Documentation/ABI/testing/sysfs-devices-system-cpu
 */
import { formatCpuList } from './cpu-list.js'
import type { Tree } from './tree.js'

export const SYSTEM = '/sys/devices/system/cpu'

export interface CpuStates {
  readonly online: number[]
  readonly offline: number[]
  readonly isolated: number[]
}

export function readStates(tree: Tree): CpuStates {
  let online = tree.list(`${SYSTEM}/online`)
  let present = tree.list(`${SYSTEM}/present`)
  const directories = online === undefined || present === undefined ? tree.numbered(SYSTEM, 'cpu') : []
  if (online === undefined && directories.length > 0) {
    // on x86 CPU 0 has no such file: it cannot be switched off
    online = directories.filter((cpu) => tree.text(`${SYSTEM}/cpu${cpu}/online`) !== '0')
    tree.notes.push('the list of online CPUs is missing: those not switched off are taken to be online')
  }
  if (online === undefined) {
    online = [...(tree.text('/proc/stat') ?? '').matchAll(/^cpu(\d+) /gm)].map(([, cpu]) => Number(cpu))
    tree.notes.push('no CPU is described: those that count their time in /proc/stat are taken to be all')
  }
  // not the file `offline`: it counts CPUs that might be plugged in some day, hundreds in a virtual machine
  present ??= directories
  const isOnline = new Set(online)
  return {
    online,
    offline: present.filter((cpu) => !isOnline.has(cpu)),
    isolated: (tree.list(`${SYSTEM}/isolated`) ?? []).filter((cpu) => isOnline.has(cpu)),
  }
}

/** CPUs that belong together, and the one whose files say so. */
export interface Part {
  readonly speaker: number
  readonly cpus: number[]
}

/**
 * Splits CPUs by the lists they name; `rest` are those for which there is none. Lists may disagree while CPUs
 * go on- or offline: a CPU stays where it was named first.
 */
export function partition(
  cpus: readonly number[],
  listOf: (cpu: number) => readonly number[] | undefined,
): { parts: Part[]; rest: number[] } {
  const left = new Set(cpus)
  const parts: Part[] = []
  for (const speaker of cpus) {
    const list = left.has(speaker) ? listOf(speaker) : undefined
    if (list === undefined || !list.includes(speaker)) continue
    const own = list.filter((cpu) => left.has(cpu))
    for (const cpu of own) left.delete(cpu)
    parts.push({ speaker, cpus: own })
  }
  return { parts, rest: [...left] }
}

export const topologyFile = (cpu: number, name: string): string => `${SYSTEM}/cpu${cpu}/topology/${name}`

/** A group that a CPU is in: of the first name that is there. Beside `name`, a mask, stands `name_list`, a list. */
export const groupOf = (tree: Tree, cpu: number, ...names: string[]): number[] | undefined => {
  const files = names.map((name) => topologyFile(cpu, name))
  return tree.list(...files.map((file) => `${file}_list`)) ?? tree.mask(...files)
}

export interface Group {
  readonly id: number | undefined
  readonly cpus: readonly number[]
}

/** Where in `groups` a CPU is; in the first that has it, where they overlap. */
export function placeIn(
  groups: readonly { readonly cpus: readonly number[] }[],
): (cpu: number) => number | undefined {
  const places = new Map<number, number>()
  for (const [place, { cpus }] of groups.entries()) {
    for (const cpu of cpus) if (!places.has(cpu)) places.set(cpu, place)
  }
  return (cpu) => places.get(cpu)
}

export const byFirstCpu = <T extends { readonly cpus: readonly number[] }>(groups: T[]): T[] =>
  groups.sort((a, b) => (a.cpus[0] ?? 0) - (b.cpus[0] ?? 0))

/** Physical packages. `package_cpus` since Linux 5.3, `core_siblings` before. */
export function readPackages(tree: Tree, online: readonly number[]): Group[] {
  const { parts, rest } = partition(online, (cpu) => groupOf(tree, cpu, 'package_cpus', 'core_siblings'))
  const packages: Group[] = parts.map(({ speaker, cpus }) => ({
    id: tree.number(topologyFile(speaker, 'physical_package_id')),
    cpus,
  }))
  if (rest.length > 0) {
    packages.push({ id: undefined, cpus: rest })
    tree.notes.push(`the package of CPUs ${formatCpuList(rest)} is unknown: taken to be one`)
  }
  return byFirstCpu(packages)
}

/** Physical cores, each with its SMT siblings. `core_cpus` since Linux 5.3, `thread_siblings` before. */
export function readCores(tree: Tree, online: readonly number[]): Group[] {
  const { parts, rest } = partition(online, (cpu) => groupOf(tree, cpu, 'core_cpus', 'thread_siblings'))
  const cores: Group[] = parts.map(({ speaker, cpus }) => ({
    id: tree.number(topologyFile(speaker, 'core_id')),
    cpus,
  }))
  for (const cpu of rest) cores.push({ id: undefined, cpus: [cpu] })
  if (rest.length > 0) {
    tree.notes.push(`the SMT siblings of CPUs ${formatCpuList(rest)} are unknown: each is taken to be a core`)
  }
  return byFirstCpu(cores)
}
