/** Where composing threads go, on machines made in memory: nothing is read here. */
import fc from 'fast-check'
import t from 'tap'
import { formatCpuList } from '../../../lib/host/topology/cpu-list.js'
import { maxComposers, type Placement, placeComposers } from '../../../lib/host/topology/placement.js'
import type { Topology } from '../../../lib/host/topology.js'
import { type FakeCpu, grid } from '../../support/topology-trees.js'

interface Limits {
  readonly affinity?: readonly number[]
  readonly cpuset?: readonly number[]
  readonly isolated?: readonly number[]
  readonly hasNodes?: boolean
}

const groups = (cpus: readonly FakeCpu[], key: (cpu: FakeCpu) => unknown): number[][] => [
  ...cpus
    .reduce(
      (map, at) => map.set(key(at), [...(map.get(key(at)) ?? []), at.cpu]),
      new Map<unknown, number[]>(),
    )
    .values(),
]

/** What `topology` would read of these CPUs; level-3 caches of two packages are different ones in `grid`. */
const machine = (cpus: readonly FakeCpu[], limits: Limits = {}): Topology => {
  const online = cpus.map(({ cpu }) => cpu)
  const [packages, l3s] = [groups(cpus, (at) => at.package), groups(cpus, (at) => at.l3)]
  const nodes = limits.hasNodes === false ? [] : groups(cpus, (at) => at.node)
  const place = (of: number[][], cpu: number): number => of.findIndex((group) => group.includes(cpu))
  const { affinity = online, cpuset, isolated = [] } = limits
  return {
    online,
    offline: [],
    isolated,
    packages: packages.map((cpus, id) => ({ id, cpus })),
    nodes: nodes.map((cpus, id) => ({ id, cpus, memory: 1, distances: [] })),
    l3Domains: l3s.map((cpus, id) => ({ from: 'cache', id, size: 1, cpus })),
    cores: groups(cpus, (at) => `${at.package} ${at.core}`).map((cpus, id) => ({
      id,
      cpus,
      package: place(packages, cpus[0]!),
      l3Domain: place(l3s, cpus[0]!),
      node: nodes.length === 0 ? undefined : place(nodes, cpus[0]!),
    })),
    allowed: {
      cpus: online.filter((cpu) => affinity.includes(cpu) && (cpuset ?? online).includes(cpu)),
      affinity,
      cpuset: cpuset && { version: 2, cgroup: '/a', cpus: cpuset },
    },
    notes: [],
  }
}

const shown = ({ cpus, threads, l3Domain }: Placement): string =>
  `${threads} threads on ${formatCpuList(cpus)} in ${l3Domain}`

const sockets = grid({ packages: 2, cores: 4, threads: 2 })
const chiplets = grid({ caches: 4, cores: 2, threads: 2 })
const large = grid({ packages: 2, cores: 8 })
/** a level-3 cache a core, as on POWER8 */
const separate = grid({ packages: 2, caches: 4, cores: 1, threads: 2 })

const rows: [what: string, of: Topology, expected: string, reason: RegExp][] = [
  [
    'one socket with one L3',
    machine(grid({ cores: 2 })),
    '2 threads on 0-1 in 0',
    /in the L3 domain of CPUs 0-1, the only one$/,
  ],
  [
    'one CPU',
    machine(grid({ cores: 1 })),
    '1 threads on 0 in 0',
    /^1 thread on CPU 0, of 1 physical core in/,
  ],
  [
    'one core',
    machine(grid({ cores: 1, threads: 2 })),
    '1 threads on 0 in 0',
    /^1 thread on CPU 0, of 1 physical core in/,
  ],
  [
    'two sockets with SMT',
    machine(sockets),
    '4 threads on 0-3 in 0',
    /one on each of 4 physical cores.*the first of 2 with the most cores$/,
  ],
  ['chiplets', machine(chiplets), '2 threads on 0-1 in 0', /the first of 4 with the most cores$/],
  [
    'more cores than threads are good for',
    machine(large),
    '4 threads on 0-7 in 0',
    /no more than 4 threads, because mounts wait for locks of the whole host$/,
  ],
  [
    'most of what may be used is on the other socket',
    machine(sockets, { affinity: [0, 1, 6, 7, 13, 14] }),
    '3 threads on 6-7,13 in 1',
    /on CPUs 6-7,13, one on each of 3 physical cores.*, of 2 the one with the most cores$/,
  ],
  [
    'siblings are no cores',
    machine(sockets, { affinity: [0, 8, 1, 9, 4, 5, 6] }),
    '3 threads on 4-6 in 1',
    /of 2 the one with the most cores$/,
  ],
  [
    'only second siblings',
    machine(sockets, { affinity: [9, 10] }),
    '2 threads on 9-10 in 0',
    /2 physical cores/,
  ],
  [
    'a cpuset',
    machine(chiplets, { cpuset: [3, 6, 14] }),
    '1 threads on 3 in 1',
    /the first of 2 with the most cores$/,
  ],
  [
    'isolated CPUs',
    machine(chiplets, { isolated: [0, 8, 2] }),
    '2 threads on 3,10 in 1',
    /; without CPUs 0,2,8, which are isolated$/,
  ],
  [
    'nothing but isolated CPUs',
    machine(chiplets, { affinity: [2, 3], isolated: [2, 3] }),
    '2 threads on 2-3 in 1',
    /all are isolated, so that the scheduler does not spread threads over them/,
  ],
  [
    'two nodes at one L3',
    machine(grid({ cores: 4 }).map((at) => ({ ...at, node: at.cpu >> 1 }))),
    '4 threads on 0-3 in 0',
    /the only one$/,
  ],
  [
    'an L3 of its own for each core',
    machine(separate, { affinity: [0, 4, 5, 6, 7, 12] }),
    '4 threads on 4-7 in undefined',
    /in the node of CPUs 4-7,12-15, because no L3 cache is shared between cores, of 2 the one with the most cores$/,
  ],
  [
    'the same without NUMA',
    machine(separate, { hasNodes: false }),
    '4 threads on 0-7 in undefined',
    /in the machine, because no L3 cache is shared between cores, the only one; no more than 4/,
  ],
]
for (const [what, of, expected, reason] of rows) {
  t.test(what, async (t) => {
    const placement = placeComposers(of)
    t.equal(shown(placement), expected)
    t.match(placement.reason, reason)
    t.strictSame(
      [...placement.cpus].sort((a, b) => a - b),
      placement.cpus,
    )
    t.strictSame(
      placeComposers(JSON.parse(JSON.stringify(of))),
      placement,
      'also of a topology that was stored',
    )
  })
}

t.test('what stands in for an L3 cache is named', async (t) => {
  const of = machine(sockets)
  const from = (from: 'cluster' | 'node' | 'package'): Topology => ({
    ...of,
    l3Domains: of.l3Domains.map((domain) => ({ ...domain, from })),
  })
  t.match(placeComposers(from('cluster')).reason, 'in the cluster of CPUs 0-3,8-11, for want of an L3 cache,')
  t.match(placeComposers(from('package')).reason, 'in the package of CPUs')
})

t.test('no CPU is known', async (t) => {
  const of = machine([])
  t.strictSame(placeComposers(of), {
    cpus: [],
    threads: 1,
    l3Domain: undefined,
    reason: '1 thread, on any CPU: none is known',
  })
  t.equal(placeComposers(of, { threads: 3 }).threads, 3)
  t.throws(() => placeComposers(of, { cpus: [0] }), { code: 'ERR_OUT_OF_RANGE', message: 'of none' })
})

t.test('as asked for', async (t) => {
  const of = machine(sockets, { affinity: [0, 1, 2, 3, 8], cpuset: [...Array(14).keys()] })
  const asked: [Parameters<typeof placeComposers>[1], string, RegExp][] = [
    [{ threads: 1 }, '1 threads on 0-3 in 0', /; the number of threads as asked for$/],
    [{ threads: 4 }, '4 threads on 0-3 in 0', /one on each of 4 physical cores/],
    [{ threads: 5 }, '5 threads on 0-3,8 in 0', /all that may be used of 4 physical cores/],
    [{ threads: 256 }, '256 threads on 0-3,8 in 0', /as asked for$/],
    [
      { cpus: [5, 4, 5] },
      '2 threads on 4-5 in 1',
      /on CPUs 4-5, as asked for: 2 physical cores in the L3 domain of/,
    ],
    [{ cpus: [0, 8] }, '1 threads on 0,8 in 0', /1 physical core in/],
    [{ cpus: [3, 4] }, '2 threads on 3-4 in undefined', /2 physical cores in 2 L3 domains, between which/],
    [{ cpus: [...Array(14).keys()] }, '4 threads on 0-13 in undefined', /no more than 4 threads/],
    [{ cpus: [7], threads: 3 }, '3 threads on 7 in 1', /the number of threads as asked for$/],
    [{ cpus: undefined, threads: undefined }, '4 threads on 0-3 in 0', /one on each/],
  ]
  for (const [options, expected, reason] of asked) {
    const placement = placeComposers(of, options)
    t.equal(shown(placement), expected, JSON.stringify(options))
    t.match(placement.reason, reason)
  }
})

interface Wrong {
  readonly name: string
  readonly code?: string
  readonly message?: string
}

t.test('wrong wishes', async (t) => {
  const of = machine(sockets, { cpuset: [0, 1, 4] })
  const wrong: [unknown, Wrong][] = [
    [null, { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }],
    [{ thread: 1 }, { name: 'TypeError', message: 'Did you mean "threads"?' }],
    [{ threads: '2' }, { name: 'TypeError', message: '"options.threads" argument must be of type number' }],
    [{ threads: null }, { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }],
    ...[0, -1, 1.5, 257, Number.NaN].map((threads): [unknown, Wrong] => [
      { threads },
      { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message: '"options.threads" is out of range' },
    ]),
    [
      { cpus: '0-1' },
      { name: 'TypeError', message: '"options.cpus" argument must be an array of CPU numbers' },
    ],
    [
      { cpus: [] },
      { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: 'must name at least one CPU' },
    ],
    [{ cpus: [0, '1'] }, { name: 'TypeError', message: '"options.cpus[1]" argument must be of type number' }],
    // biome-ignore lint/suspicious/noSparseArray: a hole is what is tested
    [{ cpus: [0, , 1] }, { name: 'TypeError', message: '"options.cpus[1]" argument must be of type number' }],
    ...[2, 99, -1, 0.5].map((cpu): [unknown, Wrong] => [
      { cpus: [0, cpu] },
      {
        name: 'RangeError',
        code: 'ERR_OUT_OF_RANGE',
        message: '"options.cpus[1]" is out of range. It must be a CPU that this process may use, of 0-1,4.',
      },
    ]),
  ]
  for (const [options, error] of wrong) t.throws(() => placeComposers(of, options as object), { ...error })
})

t.test('whatever the machine and the affinity', async () => {
  const machines = fc
    .record({
      packages: fc.integer({ min: 1, max: 3 }),
      caches: fc.integer({ min: 1, max: 3 }),
      cores: fc.integer({ min: 2, max: 6 }),
      threads: fc.integer({ min: 1, max: 4 }),
      isAdjacent: fc.boolean(),
    })
    .map(grid)
    .chain((cpus) =>
      fc.record({
        cpus: fc.constant(cpus),
        affinity: fc.subarray(
          cpus.map(({ cpu }) => cpu),
          { minLength: 1 },
        ),
      }),
    )
  fc.assert(
    fc.property(machines, ({ cpus, affinity }) => {
      const of = machine(cpus, { affinity })
      const { cpus: chosen, threads, l3Domain } = placeComposers(of)
      const at = (cpu: number): FakeCpu => cpus.find((one) => one.cpu === cpu)!
      const coresAt = (l3: number): number =>
        of.cores.filter((core) => core.l3Domain === l3 && core.cpus.some((cpu) => affinity.includes(cpu)))
          .length
      const coreNames = new Set(chosen.map((cpu) => `${at(cpu).package} ${at(cpu).core}`))
      return (
        chosen.every((cpu) => affinity.includes(cpu)) &&
        chosen.every((cpu) => of.l3Domains[l3Domain!]?.cpus.includes(cpu)) &&
        coreNames.size === chosen.length &&
        chosen.every((cpu, i) => i === 0 || cpu > chosen[i - 1]!) &&
        chosen.length === Math.max(...of.l3Domains.map((_, place) => coresAt(place))) &&
        threads === Math.min(chosen.length, maxComposers)
      )
    }),
  )
})
