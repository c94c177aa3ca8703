/**
 * Machines of all sorts, as directories: what is read from them, whole and with files missing. The machines and
 * what they are stand in test/support/topology-machines.ts.
 */
import t from 'tap'
import { formatCpuList } from '../../lib/host/topology/cpu-list.js'
import { type Topology, topology } from '../../lib/host/topology.js'
import { machines, type Seen } from '../support/topology-machines.js'
import { type FakeCpu, grid, type Machine, machineTree } from '../support/topology-trees.js'

const seen = (of: Topology): Seen => ({
  online: formatCpuList(of.online),
  offline: formatCpuList(of.offline),
  packages: of.packages.map(({ id, cpus }) => `${id}: ${formatCpuList(cpus)}`),
  nodes: of.nodes.map(({ id, cpus }) => `${id}: ${formatCpuList(cpus)}`),
  l3Domains: of.l3Domains.map(
    ({ from, id, size, cpus }) =>
      `${from} ${id} ${size === undefined ? '?' : size / 1024}: ${formatCpuList(cpus)}`,
  ),
  cores: of.cores.map((core) => `${formatCpuList(core.cpus)} ${core.package}/${core.l3Domain}/${core.node}`),
  notes: of.notes,
})

const roots = new Map(Object.entries(machines).map(([name, machine]) => [name, machineTree(t, machine)]))

for (const [name, { expected }] of Object.entries(machines)) {
  t.test(name, async (t) => {
    const result = topology({ root: roots.get(name) })
    const all = seen(result)
    t.strictSame({ ...all, ...expected }, all)
    t.equal(JSON.stringify(JSON.parse(JSON.stringify(result))), JSON.stringify(result), 'plain data')
  })
}

t.test('memory and distances of nodes', async (t) => {
  const { nodes } = topology({ root: roots.get('nodes without memory, nodes without CPUs') })
  t.strictSame(
    nodes.map(({ memory }) => memory),
    [4096 * 1024, 0, 1024 * 1024],
  )
  t.strictSame(nodes[2]?.distances, [
    { node: 0, distance: 24 },
    { node: 1, distance: 17 },
    { node: 2, distance: 10 },
  ])
})

t.test('files that are missing or say nothing', async (t) => {
  const machine = { cpus: grid({ packages: 2, cores: 2, threads: 2 }) }
  const cpu = 'sys/devices/system/cpu'
  const lists = (online: readonly FakeCpu[], names: readonly string[]) =>
    Object.fromEntries(online.flatMap((at) => names.map((name) => [`${cpu}/cpu${at.cpu}/${name}`, null])))
  const whole = seen(topology({ root: machineTree(t, machine) }))
  const read = (files: Machine['files']): Seen =>
    seen(topology({ root: machineTree(t, { ...machine, files }) }))

  t.strictSame(
    read(
      lists(machine.cpus, [
        ...['topology/package_cpus_list', 'topology/package_cpus', 'topology/core_siblings_list'],
        ...['topology/core_cpus_list', 'topology/core_cpus', 'topology/thread_siblings_list'],
        'cache/index1/shared_cpu_list',
      ]),
    ),
    whole,
    'a kernel before 5.3, or a copy that has the masks only',
  )
  t.strictSame(
    read({ [`${cpu}/online`]: null, [`${cpu}/present`]: null, [`${cpu}/cpu3/online`]: '0' }),
    {
      ...whole,
      online: '0-2,4-7',
      offline: '3',
      packages: ['0: 0-1,4-5', '1: 2,6-7'],
      nodes: ['0: 0-1,4-5', '1: 2,6-7'],
      l3Domains: ['cache 0 16384: 0-1,4-5', 'cache 1 16384: 2,6-7'],
      cores: ['0,4 0/0/0', '1,5 0/0/0', '2,6 1/1/1', '7 1/1/1'],
      notes: ['the list of online CPUs is missing: those not switched off are taken to be online'],
    },
    'no lists of CPUs, and a CPU that goes offline meanwhile',
  )
  t.strictSame(
    read({ 'sys/devices': null, 'proc/stat': 'cpu  1 2\ncpu0 1\ncpu1 0\nintr 7' }),
    {
      online: '0-1',
      offline: '',
      packages: ['undefined: 0-1'],
      nodes: [],
      l3Domains: ['package undefined ?: 0-1'],
      cores: ['0 0/0/undefined', '1 0/0/undefined'],
      notes: [
        'no CPU is described: those that count their time in /proc/stat are taken to be all',
        'the package of CPUs 0-1 is unknown: taken to be one',
        'no NUMA node is described',
        'the SMT siblings of CPUs 0-1 are unknown: each is taken to be a core',
        'no level-3 cache is known for CPUs 0-1: their package stands in',
      ],
    },
    'a container without /sys',
  )
  const damaged = read({
    [`${cpu}/cpu0/topology/core_cpus_list`]: '0-',
    [`${cpu}/cpu1/topology/core_cpus_list`]: '',
    [`${cpu}/cpu2/topology/core_cpus_list`]: '2,6\n\0',
    'sys/devices/system/node/node0/distance': '10',
    'sys/devices/system/node/node1/cpulist': null,
    'sys/devices/system/node/node1/cpumap': null,
  })
  t.strictSame(
    { cores: damaged.cores, nodes: damaged.nodes, notes: damaged.notes },
    {
      cores: ['0,4 0/0/0', '1,5 0/0/0', '2,6 1/1/undefined', '3,7 1/1/undefined'],
      nodes: ['0: 0-1,4-5', '1: '],
      notes: [
        'the distances of node 0 are unknown',
        'the CPUs of node 1 are unknown',
        '/sys/devices/system/cpu/cpuN/topology/core_cpus_list: not a set of CPUs: "0-"',
      ],
    },
    'damaged ones, and one with the NUL that hwloc-gather-topology leaves',
  )
  t.strictSame(
    read({ 'sys/devices/system/node/node1/cpulist': '0-7' }),
    { ...whole, nodes: ['0: 0-1,4-5', '1: 0-7'] },
    'nodes that overlap: the first one has it',
  )
  const counted = { 'sys/devices': null, 'proc/stat': 'cpu  1 2\ncpu0 1\ncpu3 0\nintr 7' }
  t.strictSame(topology({ root: machineTree(t, { ...machine, files: counted }) }).online, [0, 3])
  const nothing = topology({ root: `${machineTree(t, { cpus: [] })}/none/` })
  t.strictSame([nothing.online, nothing.packages, nothing.l3Domains, nothing.cores], [[], [], [], []])
  t.ok(nothing.notes.length > 0)
})

t.test('wrong options', async (t) => {
  const wrong: [unknown, object][] = [
    [null, { code: 'ERR_INVALID_ARG_TYPE', message: '"options" argument must be an object' }],
    [['/'], { code: 'ERR_INVALID_ARG_TYPE' }],
    [{ rooot: '/' }, { code: 'ERR_INVALID_ARG_VALUE', message: 'Did you mean "root"?' }],
    [
      { root: 7 },
      { code: 'ERR_INVALID_ARG_TYPE', message: '"options.root" argument must be of type string' },
    ],
    [{ root: '' }, { code: 'ERR_INVALID_ARG_VALUE', message: 'must not be empty' }],
    [{ root: '/a\0' }, { code: 'ERR_INVALID_ARG_VALUE', message: 'must not hold a NUL byte' }],
  ]
  for (const [options, error] of wrong)
    t.throws(() => topology(options as object), { name: 'TypeError', ...error })
})
