/**
 * The lock benchmark: where it would put its threads on machines that are not at hand, what it makes of what lock.c
 * prints, and a short real run on this one.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Topology, topology } from '../../lib/host/topology.js'
import { root, run } from '../support/child.js'
import { all, programs } from '../support/needs.js'
import { grid, type Machine, machineTree } from '../support/topology-trees.js'

interface Placement {
  name: string
  cpus: number[]
}
interface Placements {
  placementsOf(topology: Topology): { placements: Placement[]; missing: { name: string; reason: string }[] }
  threadCounts(placement: Placement, first?: number): number[]
}
interface Slice {
  acquisitions: number
  handoffs: number
  nanoseconds: number
}
interface Cell {
  name: string
  placement: string
  cpus: number[]
}
interface Fit {
  placement: string
  verdict: string
  isFitted: boolean
  sigma?: number
  kappa?: number
}
interface Report {
  text: string
  sections: { title: string; text: string; table?: { rows: (string | number)[][] }; chart?: object }[]
  raw: {
    rows: (Cell & { threads: number; cost: { median: number }; throughput: number; disturbed: number })[]
    fits: Fit[]
  }
}
interface Lock {
  cellsOf(placements: Placement[], first: number): Cell[]
  parseSlices(text: string): Slice[]
  report(what: object): Report
}
const load = (file: string) => import(new URL(`../../bench/lock/${file}`, import.meta.url).href)
const { placementsOf, threadCounts }: Placements = await load('placements.mjs')
const { cellsOf, parseSlices, report }: Lock = await load('main.mjs')

const placed = (t: Test, machine: Machine) => {
  const { placements, missing } = placementsOf(topology({ root: machineTree(t, machine) }))
  return {
    placements: Object.fromEntries(placements.map(({ name, cpus }) => [name, cpus.join(' ')])),
    missing: missing.map(({ name }) => name),
  }
}

t.test('placements are those that a machine has, and the others are named', (t) => {
  t.strictSame(placed(t, { cpus: grid({ cores: 2 }) }), {
    placements: { 'same L3 cache': '0 1' },
    missing: ['SMT siblings', 'other L3 cache', 'other NUMA node of the socket', 'other socket'],
  })
  // siblings are n and n + 16; four chiplets of two cores in each of two sockets
  t.strictSame(placed(t, { cpus: grid({ packages: 2, caches: 4, cores: 2, threads: 2 }) }), {
    placements: {
      'SMT siblings': '0 16',
      'same L3 cache': '0 1',
      'other L3 cache': '0 2 4 6 1 3 5 7',
      'other socket': '0 8 1 9 2 10 3 11 4 12 5 13 6 14 7 15',
    },
    missing: ['other NUMA node of the socket'],
  })
  const clusters = grid({ caches: 2, cores: 2 }).map((cpu) => ({ ...cpu, node: cpu.l3 }))
  t.strictSame(placed(t, { cpus: clusters }), {
    placements: {
      'same L3 cache': '0 1',
      'other L3 cache': '0 2 1 3',
      'other NUMA node of the socket': '0 2 1 3',
    },
    missing: ['SMT siblings', 'other socket'],
  })
  t.strictSame(placed(t, { cpus: grid({ cores: 1 }) }).placements, {})
  t.end()
})

t.test('CPUs that this process may not use are left alone', (t) => {
  const files = {
    'proc/thread-self/status': 'Name:\tnode\nCpus_allowed:\tff\nCpus_allowed_list:\t1-2,9',
  }
  t.strictSame(placed(t, { cpus: grid({ packages: 2, cores: 4, threads: 2 }), files }), {
    placements: { 'SMT siblings': '1 9', 'same L3 cache': '1 2' },
    missing: ['other L3 cache', 'other NUMA node of the socket', 'other socket'],
  })
  t.end()
})

t.test('threads are doubled up to all of them', (t) => {
  const counts = (count: number) =>
    threadCounts({ name: '', cpus: Array.from({ length: count }, (_, i) => i) })
  t.strictSame([2, 3, 8, 12].map(counts), [[2], [2, 3], [2, 4, 8], [2, 4, 8, 12]])
  t.end()
})

t.test('what lock.c prints is read, and nothing else', (t) => {
  t.strictSame(parseSlices('12 11 10000\n0 0 20000\n'), [
    { acquisitions: 12, handoffs: 11, nanoseconds: 10000 },
    { acquisitions: 0, handoffs: 0, nanoseconds: 20000 },
  ])
  for (const text of ['', '12 10\n', '12 10 1 1\n', 'x 10 10\n', '12 10 1\n\n13 10 1\n'])
    t.throws(() => parseSlices(text), /^lock\.c: expected three numbers, received "/)
  t.end()
})

t.test('the report: cost, what is added, and a law where there are points enough', (t) => {
  const placements = [
    { name: 'same L3 cache', cpus: [0, 1, 2, 3, 4, 5, 6, 7] },
    { name: 'other socket', cpus: [0, 8] },
  ]
  const cells = cellsOf(placements, 0)
  t.strictSame(
    cells.map(({ cpus }) => cpus.length),
    [1, 2, 4, 8, 2],
  )
  // 10 ns alone, 40 per thread when it is handed on
  const slicesOf = ({ cpus }: Cell): Slice[] => {
    const cost = cpus.length === 1 ? 10 : 40 * cpus.length
    const good = { acquisitions: 1000, handoffs: cpus.length === 1 ? 0 : 1000, nanoseconds: 1000 * cost }
    // nothing at all; a thread away for most of the time; another one that takes the lock alone meanwhile
    const late = { acquisitions: 10, handoffs: cpus.length === 1 ? 0 : 10, nanoseconds: 1000 * cost }
    const lonely = { ...late, acquisitions: 100_000 }
    return [{ ...good, acquisitions: 0, handoffs: 0 }, late, ...(cpus.length === 1 ? [late] : [lonely]), good]
  }
  const measured = new Map(cells.map((cell) => [cell.name, slicesOf(cell)]))
  const missing = [{ name: 'SMT siblings', reason: 'no core has two' }]
  const { text, sections, raw } = report({ cells, measured, placements, missing })
  t.match(text, /on no other.*\n\n- more than 8 threads\n- SMT siblings: no core has two\n/)
  t.strictSame(
    sections[0]?.table?.rows.map(([, , threads, , added]) => [threads, added]),
    [
      [1, ''],
      [2, '70'],
      [4, '150'],
      [8, '310'],
      [2, '70'],
    ],
  )
  t.strictSame(
    raw.rows.map(({ cost, disturbed }) => [cost.median, disturbed]),
    [
      [10, 0.75],
      [80, 0.75],
      [160, 0.75],
      [320, 0.75],
      [80, 0.75],
    ],
    'slices in which a thread had no CPU do not count',
  )
  const [same, other] = raw.fits
  t.equal(same?.isFitted, true)
  t.match(same?.verdict, /^Best measured: 100,000,000\/s at a concurrency of 1\. /)
  t.equal(other?.isFitted, false)
  t.match(
    sections[1]?.text,
    /other socket: .* No law fitted: it takes 4 different concurrencies, and there are 2/,
  )
  t.end()
})

t.test('threads that never met are no measurement, and no failure', (t) => {
  const placements = [{ name: 'same L3 cache', cpus: [0, 1] }]
  const cells = cellsOf(placements, 0)
  const slice = { acquisitions: 100, handoffs: 0, nanoseconds: 200 }
  const measured = new Map(cells.map(({ name }) => [name, [slice]]))
  const { sections } = report({ cells, measured, placements, missing: [] })
  t.strictSame(sections[0]?.table?.rows[1], ['same L3 cache', '0 1', 2, '–', '–', '–', '100 %'])
  t.match(sections[1]?.text, /No law fitted: it takes 4 different concurrencies, and there are 1/)
  t.end()
})

t.test('one thread alone is reported without a placement', (t) => {
  const cells = cellsOf([], 3)
  t.strictSame(cells, [{ name: 'alone', placement: 'one thread alone', cpus: [3] }])
  const measured = new Map([['alone', [{ acquisitions: 100, handoffs: 0, nanoseconds: 200 }]]])
  const { text, sections } = report({ cells, measured, placements: [], missing: [] })
  t.match(text, /- more than 1 thread\n/)
  t.notMatch(text, /not idle/)
  t.equal(sections[0]?.chart, undefined)
  t.match(sections[1]?.text, /nothing is fitted/)
  t.end()
})

const compiler = programs('cc')

t.test('lock.c: the lock excludes, and wrong arguments are told', compiler, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'overlayfd-test-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const program = join(directory, 'lock')
  const built = await run('cc', [
    '-O2',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-pthread',
    '-o',
    program,
    join(root, 'bench/lock/lock.c'),
  ])
  t.equal(built.status, 0, built.stderr)
  const cpus = topology().allowed.cpus.slice(0, 2).map(String)
  const ended = await run(program, ['100', '2', ...cpus])
  t.equal(ended.status, 0, ended.stderr)
  const slices = parseSlices(ended.stdout)
  t.equal(slices.length, 100)
  t.ok(slices.reduce((sum, { acquisitions }) => sum + acquisitions, 0) > 100)
  t.ok(slices.every(({ nanoseconds }) => nanoseconds >= 2e6))
  t.match(await run(program, ['5', '2']), { status: 2, stderr: /^usage: / })
  t.match(await run(program, ['5', '2', '1023']), { status: 1, stderr: /^cpu 1023: Invalid argument/ })
})

t.test('a quick run says what was measured, where, and what was not', all(compiler), async (t) => {
  const output = mkdtempSync(join(tmpdir(), 'overlayfd-test-'))
  t.teardown(() => rmSync(output, { recursive: true }))
  const ended = await run(process.execPath, [
    join(root, 'bench/main.mjs'),
    'lock',
    '--quick',
    '--output',
    output,
  ])
  t.equal(ended.status, 0, ended.stderr)
  const here = topology()
  const hasTwo = here.l3Domains.some(
    ({ cpus }) => cpus.filter((cpu) => here.allowed.cpus.includes(cpu)).length > 1,
  )
  t.ok(readdirSync(output).includes('lock.json') && readdirSync(output).includes('lock.md'))
  t.equal(readdirSync(output).includes('lock-handoff.svg'), hasTwo)
  const { raw } = JSON.parse(readFileSync(join(output, 'lock.json'), 'utf8')) as Report
  const [alone, ...others] = raw.rows
  t.ok((alone?.cost.median ?? 0) > 0.2 && (alone?.cost.median ?? 0) < 200, `${alone?.cost.median} ns alone`)
  for (const { name, cost } of others)
    t.ok(cost.median > (alone?.cost.median ?? 0), `${name}: ${cost.median} ns`)
  t.match(
    readFileSync(join(output, 'lock.md'), 'utf8'),
    /on no other\. More cores than it has were not measured/,
  )
})
