/**
 * L3 domains: CPUs between which a cache line travels without leaving the chip's last shared cache, which is what
 * a contended lock costs.
 *
 * Where no level-3 cache is described (virtual machines; arm64 whose firmware does not tell; cores that have
 * none), the next larger thing stands in, for those CPUs only, and a note says so:
 *
 *   cache      shared_cpu_list of the cache of level 3, whatever its index; its id is not needed
 *   cluster    cluster_cpus_list (since Linux 5.16), if it is more than one core: a shared level 2, or less
 *   node       CPUs of the NUMA node
 *   package    CPUs of the package
 */
import type { L3Domain, NumaNode } from '../topology.js'
import { formatCpuList } from './cpu-list.js'
import { byFirstCpu, type Group, groupOf, partition, placeIn, SYSTEM, topologyFile } from './cpus.js'
import type { Tree } from './tree.js'

interface Way {
  readonly from: L3Domain['from']
  cpus(cpu: number): readonly number[] | undefined
  /** asked for one CPU of the domain */
  details(cpu: number): { readonly id: number | undefined; readonly size?: number | undefined }
}

function cacheWay(tree: Tree): Way {
  // an index is not a level: cores without a separate instruction cache have one fewer
  const level3 = (cpu: number): string | undefined => {
    const caches = `${SYSTEM}/cpu${cpu}/cache`
    return tree
      .numbered(caches, 'index')
      .map((index) => `${caches}/index${index}`)
      .reverse()
      .find((cache) => tree.number(`${cache}/level`) === 3)
  }
  return {
    from: 'cache',
    cpus(cpu) {
      const cache = level3(cpu)
      if (cache === undefined) return undefined
      return tree.list(`${cache}/shared_cpu_list`) ?? tree.mask(`${cache}/shared_cpu_map`)
    },
    details(cpu) {
      const cache = level3(cpu)
      return { id: tree.number(`${cache}/id`), size: bytes(tree.text(`${cache}/size`)) }
    },
  }
}

/** `32768K`: the kernel knows no other unit. */
function bytes(text: string | undefined): number | undefined {
  const kilobytes = /^(\d+)K$/.exec(text ?? '')?.[1]
  return kilobytes === undefined ? undefined : Number(kilobytes) * 1024
}

function clusterWay(tree: Tree, cores: readonly Group[]): Way {
  const coreOf = placeIn(cores)
  return {
    from: 'cluster',
    cpus(cpu) {
      const cluster = groupOf(tree, cpu, 'cluster_cpus')
      // the kernel gives each core a cluster where it knows of none
      return cluster?.some((other) => coreOf(other) !== coreOf(cpu)) ? cluster : undefined
    },
    details: (cpu) => ({ id: tree.number(topologyFile(cpu, 'cluster_id')) }),
  }
}

function groupWay(from: 'node' | 'package', groups: readonly Group[]): Way {
  const place = placeIn(groups)
  const holder = (cpu: number) => groups[place(cpu) ?? -1]
  return { from, cpus: (cpu) => holder(cpu)?.cpus, details: (cpu) => ({ id: holder(cpu)?.id }) }
}

/** A domain for every CPU that is online, ordered by their first CPU. */
export function readL3Domains(
  tree: Tree,
  online: readonly number[],
  known: { packages: readonly Group[]; nodes: readonly NumaNode[]; cores: readonly Group[] },
): L3Domain[] {
  const ways = [
    cacheWay(tree),
    clusterWay(tree, known.cores),
    groupWay('node', known.nodes),
    groupWay('package', known.packages),
  ]
  const domains: L3Domain[] = []
  let left = online
  for (const way of ways) {
    const { parts, rest } = partition(left, (cpu) => way.cpus(cpu))
    for (const { speaker, cpus } of parts) {
      const { id, size } = way.details(speaker)
      domains.push({ from: way.from, id, size, cpus })
    }
    if (way.from !== 'cache' && parts.length > 0) {
      const cpus = formatCpuList(parts.flatMap((part) => part.cpus))
      tree.notes.push(`no level-3 cache is known for CPUs ${cpus}: their ${way.from} stands in`)
    }
    left = rest
  }
  return byFirstCpu(domains)
}
