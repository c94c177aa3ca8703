/**
 * The CPUs that a process may use, from the files of every arrangement of cgroups: v1, v2, both beside each other,
 * containers that see a part. Each row is what /proc says, the files of the cgroup mounts, and what follows. The
 * machine has CPUs 0-7; CPU 7 is offline.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { formatCpuList } from '../../../lib/host/topology/cpu-list.js'
import { type Topology, topology } from '../../../lib/host/topology.js'
import { dist, run } from '../../support/child.js'
import { programs } from '../../support/needs.js'
import { describeMachine, grid, machineTree, writeFiles } from '../../support/topology-trees.js'

const cpus = grid({ cores: 8 }).map((cpu) => ({ ...cpu, isOffline: cpu.cpu === 7 }))

const status = (list: string): string =>
  `Name:\tnode\nCpus_allowed:\tff\nCpus_allowed_list:\t${list}\nMems_allowed:\t1`

/** The answer on one line: allowed, affinity, and `v<version> <cgroup> <cpus>`. */
const shown = ({ allowed }: Topology): string => {
  const { affinity, cpuset } = allowed
  const limit = cpuset ? `v${cpuset.version} ${cpuset.cgroup} ${formatCpuList(cpuset.cpus)}` : 'unknown'
  return `${formatCpuList(allowed.cpus)} | ${affinity ? formatCpuList(affinity) : 'unknown'} | ${limit}`
}

const proc = (files: Record<string, string | null>): Record<string, string | null> =>
  Object.fromEntries(Object.entries(files).map(([name, text]) => [`proc/thread-self/${name}`, text]))

const cgroup = (files: Record<string, string>): Record<string, string | null> => ({
  'sys/fs/cgroup': null,
  ...Object.fromEntries(Object.entries(files).map(([name, text]) => [`sys/fs/cgroup/${name}`, text])),
})

const v2 = '31 23 0:28 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate'
const v1 = (root = '/', target = '/sys/fs/cgroup/cpuset'): string =>
  [
    '30 23 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755',
    '32 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 master:1 - cgroup cgroup rw,cpu,cpuacct',
    `34 30 0:31 ${root} ${target} rw shared:6 - cgroup cgroup rw,cpuset`,
    '41 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
  ].join('\n')
const v1Cgroup = (path: string): string =>
  `9:name=systemd:/init.scope\n5:cpu,cpuacct:/other\n3:cpuset:${path}\n0::/unified/other`

interface Row {
  readonly files: Record<string, string | null>
  readonly expected: string
  readonly notes?: readonly string[]
}

const rows: Record<string, Row> = {
  'no limits': { files: {}, expected: '0-6 | 0-7 | v2 / 0-6' },
  'a restricted affinity': {
    files: proc({ status: status('2,4-5,7') }),
    expected: '2,4-5 | 2,4-5,7 | v2 / 0-6',
  },
  'no thread-self, before Linux 3.17 and in copies': {
    files: {
      'proc/thread-self': null,
      'proc/self/status': status('1-2'),
      'proc/self/cgroup': '0::/',
      'proc/self/mountinfo': v2,
    },
    expected: '1-2 | 1-2 | v2 / 0-6',
  },
  'v2: a limit of its own': {
    files: {
      ...proc({ cgroup: '0::/a/b', mountinfo: v2 }),
      ...cgroup({
        'cpuset.cpus.effective': '0-6',
        'a/cpuset.cpus.effective': '0-3',
        'a/b/cpuset.cpus.effective': '2-3',
      }),
    },
    expected: '2-3 | 0-7 | v2 /a/b 2-3',
  },
  'v2: a limit of an ancestor, below which the controller is not enabled': {
    files: {
      ...proc({ cgroup: '0::/a/b/c', mountinfo: v2 }),
      ...cgroup({
        'cpuset.cpus.effective': '0-6',
        'a/cpuset.cpus.effective': '0-3',
        'a/b/c/cgroup.procs': '',
      }),
    },
    expected: '0-3 | 0-7 | v2 /a 0-3',
  },
  'v2: a partition, whose CPUs the ancestors no longer have': {
    files: {
      ...proc({ cgroup: '0::/a', mountinfo: v2, status: status('4-6') }),
      ...cgroup({ 'cpuset.cpus.effective': '0-3', 'a/cpuset.cpus.effective': '4-6' }),
    },
    expected: '4-6 | 4-6 | v2 /a 4-6',
  },
  'v2: a cgroup that was removed': {
    files: {
      ...proc({ cgroup: '0::/a/b (deleted)', mountinfo: v2 }),
      ...cgroup({ 'a/cpuset.cpus.effective': '0-1' }),
    },
    expected: '0-1 | 0-7 | v2 /a 0-1',
  },
  'v2: a kernel without the controller': {
    files: { ...proc({ cgroup: '0::/a', mountinfo: v2 }), ...cgroup({ 'a/cgroup.procs': '' }) },
    expected: '0-6 | 0-7 | unknown',
    notes: ['the cpuset of cgroup /a (v2) is unknown: no mount shows its limit'],
  },
  'v1: affinity and limit': {
    files: {
      ...proc({ cgroup: v1Cgroup('/a'), mountinfo: v1(), status: status('0-2') }),
      ...cgroup({
        'cpuset/cpuset.effective_cpus': '0-6',
        'cpuset/a/cpuset.effective_cpus': '2-5',
        'cpuset/a/cpuset.cpus': '2-7',
      }),
    },
    expected: '2 | 0-2 | v1 /a 2-5',
  },
  'v1: a cgroup that was never set up': {
    files: {
      ...proc({ cgroup: v1Cgroup('/a'), mountinfo: v1() }),
      ...cgroup({ 'cpuset/cpuset.effective_cpus': '0-3', 'cpuset/a/cpuset.effective_cpus': '' }),
    },
    expected: '0-3 | 0-7 | v1 / 0-3',
  },
  'v1 under gVisor: no effective CPUs': {
    files: {
      ...proc({ cgroup: v1Cgroup('/a'), mountinfo: v1() }),
      ...cgroup({ 'cpuset/a/cpuset.cpus': '2-7' }),
    },
    expected: '2-6 | 0-7 | v1 /a 2-7',
  },
  'hybrid: the limit is in v1, whatever v2 shows': {
    files: {
      ...proc({ cgroup: v1Cgroup('/a'), mountinfo: v1() }),
      ...cgroup({ 'cpuset/a/cpuset.effective_cpus': '1', 'unified/other/cpuset.cpus.effective': '3' }),
    },
    expected: '1 | 0-7 | v1 /a 1',
  },
  'hybrid: the limit is in v2, and v1 has the rest': {
    files: {
      ...proc({
        cgroup: '5:cpu,cpuacct:/other\n0::/a',
        mountinfo:
          '32 30 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n41 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
      }),
      ...cgroup({ 'unified/a/cpuset.cpus.effective': '5-6' }),
    },
    expected: '5-6 | 0-7 | v2 /a 5-6',
  },
  'v1: one hierarchy for several controllers': {
    files: {
      ...proc({
        cgroup: '3:cpuset,cpu:/a',
        mountinfo: '34 30 0:31 / /sys/fs/cgroup/all rw - cgroup cgroup rw,cpuset,cpu',
      }),
      ...cgroup({ 'all/a/cpuset.effective_cpus': '0' }),
    },
    expected: '0 | 0-7 | v1 /a 0',
  },
  'a container that sees its own part of the hierarchy': {
    files: {
      ...proc({ cgroup: v1Cgroup('/docker/4f/inner'), mountinfo: v1('/docker/4f') }),
      ...cgroup({ 'cpuset/cpuset.effective_cpus': '0-3', 'cpuset/inner/cpuset.effective_cpus': '3' }),
    },
    expected: '3 | 0-7 | v1 /docker/4f/inner 3',
  },
  'a cgroup whose limit is that of the top of its part': {
    files: {
      ...proc({ cgroup: '0::/docker/4f/inner', mountinfo: v2.replace(' / ', ' /docker/4f ') }),
      ...cgroup({ 'cpuset.cpus.effective': '0-3' }),
    },
    expected: '0-3 | 0-7 | v2 /docker/4f 0-3',
  },
  'a mount of another part is passed over': {
    files: {
      ...proc({
        cgroup: '0::/docker/4f',
        mountinfo: `50 23 0:28 /docker/4 /other rw - cgroup2 cgroup2 rw\n${v2}`,
      }),
      'other/cpuset.cpus.effective': '0',
      'other/f/cpuset.cpus.effective': '0',
      ...cgroup({ 'docker/4f/cpuset.cpus.effective': '6' }),
    },
    expected: '6 | 0-7 | v2 /docker/4f 6',
  },
  'outside of its cgroup namespace': {
    files: {
      ...proc({ cgroup: '0::/../a', mountinfo: v2 }),
      ...cgroup({ 'cpuset.cpus.effective': '0' }),
      'sys/fs/a/cpuset.cpus.effective': '1',
    },
    expected: '0-6 | 0-7 | unknown',
    notes: ['the cpuset of cgroup /../a (v2) is unknown: no mount shows its limit'],
  },
  'the mount of another cgroup namespace': {
    files: {
      ...proc({ cgroup: '0::/', mountinfo: v2.replace(' / ', ' /../.. ') }),
      ...cgroup({ 'cpuset.cpus.effective': '0' }),
    },
    expected: '0-6 | 0-7 | unknown',
    notes: ['the cpuset of cgroup / (v2) is unknown: no mount shows its limit'],
  },
  'no mount of the hierarchy': {
    files: proc({ cgroup: v1Cgroup('/a'), mountinfo: v1().replace(/^34 .*$/m, v2) }),
    expected: '0-6 | 0-7 | unknown',
    notes: ['the cpuset of cgroup /a (v1) is unknown: its hierarchy is not mounted'],
  },
  'names with spaces, colons and commas, at a target with a space': {
    files: {
      ...proc({ cgroup: `0::/\n3:cpuset:/a b:c,d `, mountinfo: v1('/', '/sys/fs/cgroup/my\\040cpuset') }),
      ...cgroup({ 'my cpuset/a b:c,d /cpuset.effective_cpus': '4' }),
    },
    expected: '4 | 0-7 | v1 /a b:c,d  4',
  },
  'nothing in common, as a limit changes meanwhile': {
    files: {
      ...proc({ cgroup: '0::/a', mountinfo: v2, status: status('0-1') }),
      ...cgroup({ 'a/cpuset.cpus.effective': '2' }),
    },
    expected: '0-1 | 0-1 | v2 /a 2',
    notes: ['affinity and cpuset have no CPU in common: of 0-1 and 2, the affinity is taken'],
  },
  'no /proc': {
    files: { proc: null },
    expected: '0-6 | unknown | unknown',
    notes: ['the affinity is unknown', 'the cgroup is unknown'],
  },
  'a kernel without cgroups': {
    files: proc({ cgroup: null, mountinfo: '' }),
    expected: '0-6 | 0-7 | unknown',
    notes: ['the cgroup is unknown'],
  },
}

const root = machineTree(t, { cpus })
/** All but the description of the hardware, which stays. */
const rewrite = (files: Row['files']): void => {
  for (const top of ['proc', 'sys/fs', 'other']) rmSync(join(root, top), { recursive: true, force: true })
  const all = [...describeMachine({ cpus, files })].filter(([file]) => !file.startsWith('sys/devices/'))
  writeFiles(root, new Map(all))
}

for (const [name, { files, expected, notes = [] }] of Object.entries(rows)) {
  t.test(name, async (t) => {
    rewrite(files)
    const result = topology({ root })
    t.equal(shown(result), expected)
    t.strictSame(result.notes, notes)
  })
}

t.test('a name of bytes that are no UTF-8', async (t) => {
  rewrite(proc({ mountinfo: v2 }))
  const name = Buffer.from([0x61, 0xff, 0x62])
  writeFileSync(join(root, 'proc/thread-self/cgroup'), Buffer.concat([Buffer.from('0::/'), name]))
  const dir = Buffer.concat([Buffer.from(join(root, 'sys/fs/cgroup/')), name])
  mkdirSync(dir)
  writeFileSync(Buffer.concat([dir, Buffer.from('/cpuset.cpus.effective')]), '1-2\n')
  t.equal(shown(topology({ root })), '1-2 | 0-7 | v2 /a\ufffdb 1-2')
})

t.test('isolated CPUs', async (t) => {
  const files = { 'sys/devices/system/cpu/isolated': '2-3,7' }
  t.strictSame(
    topology({ root: machineTree(t, { cpus, files }) }).isolated,
    [2, 3],
    'of those that are online',
  )
})

t.test('the affinity of this process, as the kernel has it', programs('taskset'), async (t) => {
  const list = /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync('/proc/thread-self/status', 'latin1'))?.[1]
  const here = topology().allowed
  t.equal(formatCpuList(here.affinity ?? []), list)
  const last = here.cpus.at(-1)
  const program = `import { topology } from ${JSON.stringify(dist('host/topology.js'))}
    console.log(JSON.stringify(topology().allowed))`
  const node = [process.execPath, '--input-type=module', '--eval', program]
  const ended = await run('taskset', ['-c', `${last}`, ...node])
  t.equal(ended.status, 0, ended.stderr)
  const there = { cpus: [last], affinity: [last], cpuset: here.cpuset }
  t.equal(ended.stdout.trim(), JSON.stringify(there), 'a narrower one leaves the cpuset as it is')
})
