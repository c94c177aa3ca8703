/**
 * Machines of all sorts, and what they are, written by hand: one row each, a field only where it is the point.
 */
import { type FakeCpu, grid, type Machine } from './topology-trees.js'

/** A topology in short. */
export interface Seen {
  readonly online: string
  readonly offline: string
  /** id: CPUs */
  readonly packages: readonly string[]
  readonly nodes: readonly string[]
  /** what it is from, id, KiB: CPUs */
  readonly l3Domains: readonly string[]
  /** CPUs of each core; `package/l3Domain/node` by place */
  readonly cores: readonly string[]
  readonly notes: readonly string[]
}

const withoutL3 = (cpus: FakeCpu[]): FakeCpu[] => cpus.map(({ l3: _, ...cpu }) => cpu)

export const machines: Record<string, Machine & { readonly expected: Partial<Seen> }> = {
  'one socket with one L3': {
    cpus: grid({ cores: 4 }),
    l3Kilobytes: 8192,
    expected: {
      online: '0-3',
      offline: '',
      packages: ['0: 0-3'],
      nodes: ['0: 0-3'],
      l3Domains: ['cache 0 8192: 0-3'],
      cores: ['0 0/0/0', '1 0/0/0', '2 0/0/0', '3 0/0/0'],
      notes: [],
    },
  },
  'two sockets with SMT, siblings numbered after all cores': {
    cpus: grid({ packages: 2, cores: 2, threads: 2 }),
    expected: {
      packages: ['0: 0-1,4-5', '1: 2-3,6-7'],
      nodes: ['0: 0-1,4-5', '1: 2-3,6-7'],
      l3Domains: ['cache 0 16384: 0-1,4-5', 'cache 1 16384: 2-3,6-7'],
      cores: ['0,4 0/0/0', '1,5 0/0/0', '2,6 1/1/1', '3,7 1/1/1'],
      notes: [],
    },
  },
  'four siblings a core, numbered one after the other': {
    cpus: grid({ packages: 2, cores: 1, threads: 4, isAdjacent: true }),
    expected: { packages: ['0: 0-3', '1: 4-7'], cores: ['0-3 0/0/0', '4-7 1/1/1'], notes: [] },
  },
  'chiplets with many L3s': {
    cpus: grid({ packages: 2, caches: 4, cores: 2, threads: 2 }),
    l3Kilobytes: 32768,
    expected: {
      online: '0-31',
      packages: ['0: 0-7,16-23', '1: 8-15,24-31'],
      l3Domains: Array.from({ length: 8 }, (_, i) => {
        const first = 2 * i
        return `cache ${i} 32768: ${first}-${first + 1},${first + 16}-${first + 17}`
      }),
      notes: [],
    },
  },
  'sub-NUMA clusters: two nodes at one L3': {
    cpus: grid({ packages: 2, cores: 4 }).map((cpu) => ({ ...cpu, node: Math.floor(cpu.cpu / 2) })),
    distance: (from, to) => (from === to ? 10 : from >> 1 === to >> 1 ? 12 : 21),
    expected: {
      packages: ['0: 0-3', '1: 4-7'],
      nodes: ['0: 0-1', '1: 2-3', '2: 4-5', '3: 6-7'],
      l3Domains: ['cache 0 16384: 0-3', 'cache 1 16384: 4-7'],
      cores: [
        ...['0 0/0/0', '1 0/0/0', '2 0/0/1', '3 0/0/1'],
        ...['4 1/1/2', '5 1/1/2', '6 1/1/3', '7 1/1/3'],
      ],
      notes: [],
    },
  },
  'many L3s in a node, many nodes in a package': {
    cpus: grid({ caches: 4, cores: 2 }).map((cpu) => ({ ...cpu, node: cpu.l3! >> 1 })),
    expected: {
      packages: ['0: 0-7'],
      nodes: ['0: 0-3', '1: 4-7'],
      l3Domains: ['cache 0 16384: 0-1', 'cache 1 16384: 2-3', 'cache 2 16384: 4-5', 'cache 3 16384: 6-7'],
      notes: [],
    },
  },
  'nodes without memory, nodes without CPUs': {
    cpus: grid({ packages: 2, cores: 2 }),
    nodes: [
      [0, 4096],
      [1, 0],
      [2, 1024],
    ],
    distance: (from, to) => 10 + 7 * Math.abs(from - to),
    expected: {
      nodes: ['0: 0-1', '1: 2-3', '2: '],
      cores: ['0 0/0/0', '1 0/0/0', '2 1/1/1', '3 1/1/1'],
      notes: [],
    },
  },
  'arm64: caches without ids': {
    cpus: grid({ packages: 2, caches: 2, cores: 2 }),
    hasNoCacheIds: true,
    expected: {
      l3Domains: [
        ...['cache undefined 16384: 0-1', 'cache undefined 16384: 2-3'],
        ...['cache undefined 16384: 4-5', 'cache undefined 16384: 6-7'],
      ],
      notes: [],
    },
  },
  'arm64: no level 3, clusters': {
    cpus: withoutL3(grid({ caches: 2, cores: 2 })).map((cpu) => ({ ...cpu, cluster: cpu.core >> 1 })),
    hasNoCacheIds: true,
    expected: {
      l3Domains: ['cluster 0 ?: 0-1', 'cluster 1 ?: 2-3'],
      notes: ['no level-3 cache is known for CPUs 0-3: their cluster stands in'],
    },
  },
  'no level 3, clusters of a core each': {
    cpus: withoutL3(grid({ packages: 2, cores: 2, threads: 2 })).map((cpu) => ({
      ...cpu,
      cluster: 2 * cpu.package + cpu.core,
    })),
    expected: {
      l3Domains: ['node 0 ?: 0-1,4-5', 'node 1 ?: 2-3,6-7'],
      notes: ['no level-3 cache is known for CPUs 0-7: their node stands in'],
    },
  },
  'no level 3, no clusters, no NUMA': {
    cpus: withoutL3(grid({ packages: 2, cores: 2 })),
    nodes: [],
    expected: {
      nodes: [],
      l3Domains: ['package 0 ?: 0-1', 'package 1 ?: 2-3'],
      cores: ['0 0/0/undefined', '1 0/0/undefined', '2 1/1/undefined', '3 1/1/undefined'],
      notes: ['no NUMA node is described', 'no level-3 cache is known for CPUs 0-3: their package stands in'],
    },
  },
  'some cores without level 3, also the first': {
    cpus: grid({ cores: 6 }).map(({ l3, ...cpu }) => (cpu.cpu === 0 || cpu.cpu === 5 ? cpu : { ...cpu, l3 })),
    expected: {
      l3Domains: ['node 0 ?: 0,5', 'cache 0 16384: 1-4'],
      cores: ['0 0/0/0', '1 0/1/0', '2 0/1/0', '3 0/1/0', '4 0/1/0', '5 0/0/0'],
      notes: ['no level-3 cache is known for CPUs 0,5: their node stands in'],
    },
  },
  'offline CPUs: a sibling, a core, CPU 0; more that might be plugged in': {
    cpus: grid({ packages: 2, cores: 2, threads: 2 }).map((cpu) => ({
      ...cpu,
      isOffline: [0, 3, 5, 7].includes(cpu.cpu),
    })),
    possible: 64,
    expected: {
      online: '1-2,4,6',
      offline: '0,3,5,7',
      packages: ['0: 1,4', '1: 2,6'],
      nodes: ['0: 1,4', '1: 2,6'],
      cores: ['1 0/0/0', '2,6 1/1/1', '4 0/0/0'],
      notes: [],
    },
  },
  'holes in the numbering of CPUs, cores, packages and nodes': {
    cpus: [
      { cpu: 2, package: 3, core: 10, l3: 40, node: 8 },
      { cpu: 40, package: 3, core: 12, l3: 40, node: 8 },
      { cpu: 7, package: 36, core: 10, l3: 41, node: 250 },
      { cpu: 64, package: 36, core: 10, l3: 41, node: 250 },
    ].sort((a, b) => a.cpu - b.cpu),
    expected: {
      online: '2,7,40,64',
      offline: '',
      packages: ['3: 2,40', '36: 7,64'],
      nodes: ['8: 2,40', '250: 7,64'],
      l3Domains: ['cache 40 16384: 2,40', 'cache 41 16384: 7,64'],
      cores: ['2 0/0/0', '7,64 1/1/1', '40 0/0/0'],
      notes: [],
    },
  },
  'packages that have no ids': {
    cpus: grid({ cores: 2 }).map((cpu) => ({ ...cpu, package: -1 })),
    expected: { packages: ['undefined: 0-1'], notes: [] },
  },
}
