/**
 * hwloc's lstopo as the second reader of the same directories, and of this machine: packages, nodes with memory and
 * distances, level-3 caches, cores and CPUs have to be the same. Where it means something else, that is said here.
 */
import { execFileSync } from 'node:child_process'
import t from 'tap'
import { formatCpuList } from '../../../lib/host/topology/cpu-list.js'
import { type Topology, topology } from '../../../lib/host/topology.js'
import { programs } from '../../support/needs.js'
import { machines } from '../../support/topology-machines.js'
import { machineTree } from '../../support/topology-trees.js'

interface Hwloc {
  readonly objects: readonly HwlocObject[]
  /** of nodes, row by row */
  readonly distances: readonly number[]
}

interface HwlocObject {
  readonly type: string
  readonly cpus: string
  readonly os_index?: string
  readonly cache_size?: string
  readonly local_memory?: string
}

const attributesOf = (tag: string): Record<string, string | undefined> =>
  Object.fromEntries([...tag.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value]))

/** `0x0000000f,,0x3`: as the kernel's masks, but for the signs and that a word may be missing. */
const cpusOf = (cpuset = ''): string =>
  formatCpuList(
    cpuset
      .split(',')
      .reverse()
      .flatMap((word, index) =>
        [...Array(32).keys()].filter((bit) => (Number(word) >>> bit) & 1).map((bit) => 32 * index + bit),
      ),
  )

/** What lstopo finds in /sys and /proc, of this machine or below a directory, and not by asking the CPU itself. */
const hwloc = (root?: string): Hwloc => {
  const input = root === undefined ? [] : ['--input', root]
  const xml = execFileSync('lstopo', [...input, '--of', 'xml', '--disallowed', '--no-io'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, HWLOC_COMPONENTS: 'linux,stop' },
  })
  const objects = [...xml.matchAll(/<object [^>]*>/g)].map(([tag]) => {
    const { type = '', cpuset, ...rest } = attributesOf(tag)
    return { type, cpus: cpusOf(cpuset), ...rest }
  })
  const [, matrix = ''] = /<distances2 [^>]*name="NUMALatency"(.*?)<\/distances2>/s.exec(xml) ?? []
  const values = [...matrix.matchAll(/<u64values [^>]*>([^<]*)</g)].flatMap(([, row = '']) =>
    row.trim().split(' '),
  )
  return { objects, distances: values.map(Number) }
}

/**
 * Theirs in words. `like` is ours, for what is not compared: where there are no nodes, hwloc makes one up, and a
 * node without CPUs is said to be with those of the nearest.
 */
const theirs = ({ objects, distances }: Hwloc, like: Topology): string[] => {
  const words: Record<string, (object: HwlocObject) => string> = {
    Package: ({ cpus, os_index }) => `${cpus} ${os_index}`,
    NUMANode: ({ cpus, os_index, local_memory }) => {
      const hasCpus = like.nodes.find(({ id }) => id === Number(os_index))?.cpus.length !== 0
      return `${hasCpus ? cpus : ''} ${os_index} ${local_memory ?? 0}`
    },
    L3Cache: ({ cpus, cache_size }) => `${cpus} ${cache_size}`,
    Core: ({ cpus }) => cpus,
    PU: ({ os_index }) => `${os_index}`,
  }
  const found = objects
    .filter(({ type }) => words[type] !== undefined && !(type === 'NUMANode' && like.nodes.length === 0))
    .map((object) => `${object.type} ${words[object.type]?.(object)}`)
  return [...found, `distances ${distances.join(' ')}`].sort()
}

const ours = ({ packages, nodes, l3Domains, cores, online }: Topology): string[] =>
  [
    ...packages.map(({ id, cpus }) => `Package ${formatCpuList(cpus)} ${id}`),
    ...nodes.map(({ id, cpus, memory }) => `NUMANode ${formatCpuList(cpus)} ${id} ${memory}`),
    ...l3Domains
      .filter(({ from }) => from === 'cache')
      .map(({ cpus, size }) => `L3Cache ${formatCpuList(cpus)} ${size}`),
    ...cores.map(({ cpus }) => `Core ${formatCpuList(cpus)}`),
    ...online.map((cpu) => `PU ${cpu}`),
    // hwloc has none for one node
    `distances ${nodes.length > 1 ? nodes.flatMap(({ distances }) => distances.map((to) => to.distance)).join(' ') : ''}`,
  ].sort()

t.test('hwloc finds the same', programs('lstopo'), async (t) => {
  const here = topology()
  t.strictSame(ours(here), theirs(hwloc(), here), 'this machine')
  for (const [name, machine] of Object.entries(machines)) {
    const root = machineTree(t, machine)
    const found = topology({ root })
    t.strictSame(ours(found), theirs(hwloc(root), found), name)
  }
})
