/**
 * NUMA nodes, the distances between them, and how much memory each has.
 *
 * A node need not have CPUs (memory behind a link, an accelerator's) nor memory (an empty bank), and nodes may
 * overlap where firmware is wrong; they are given as the kernel tells them.
 *
 * @see Documentation/ABI/stable/sysfs-devices-node
 */
import type { NumaNode } from '../topology.js'
import type { Tree } from './tree.js'

const SYSTEM = '/sys/devices/system/node'

export function readNodes(tree: Tree, online: readonly number[]): NumaNode[] {
  const ids = tree.list(`${SYSTEM}/online`) ?? tree.numbered(SYSTEM, 'node')
  if (ids.length === 0) tree.notes.push('no NUMA node is described')
  const isOnline = new Set(online)
  return ids.map((id) => {
    const dir = `${SYSTEM}/node${id}`
    const cpus = tree.list(`${dir}/cpulist`) ?? tree.mask(`${dir}/cpumap`)
    if (cpus === undefined) tree.notes.push(`the CPUs of node ${id} are unknown`)
    return {
      id,
      cpus: (cpus ?? []).filter((cpu) => isOnline.has(cpu)),
      memory: memory(tree.text(`${dir}/meminfo`)),
      distances: distances(tree, `${dir}/distance`, id, ids),
    }
  })
}

/** `Node 0 MemTotal:  1024 kB` */
function memory(meminfo: string | undefined): number | undefined {
  const kilobytes = /\bMemTotal:\s*(\d+) kB/.exec(meminfo ?? '')?.[1]
  return kilobytes === undefined ? undefined : Number(kilobytes) * 1024
}

/** The file has a column for each node that is online, and does not say which: so the columns must be as many. */
function distances(tree: Tree, file: string, id: number, ids: readonly number[]): NumaNode['distances'] {
  const columns = tree.text(file)?.trim().split(/\s+/) ?? []
  if (columns.length !== ids.length || !columns.every((column) => /^\d+$/.test(column))) {
    tree.notes.push(`the distances of node ${id} are unknown`)
    return []
  }
  return ids.map((node, index) => ({ node, distance: Number(columns[index]) }))
}
