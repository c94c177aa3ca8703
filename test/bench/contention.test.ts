/**
 * The contention benchmark: how what its programs print is read, what the report says where little or nothing is
 * known, and a short real run with everything in it. What a trace is made to tell: contention-trace.test.ts.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { root, run } from '../support/child.js'
import { mounts } from '../support/mountinfo.js'
import { all, privileged, programs } from '../support/needs.js'

interface Strategy {
  name: string
  waits(layers: number): number
}
interface Size {
  layers: number
  concurrency: number
  containers: number
  seconds: number
}
interface Cell {
  strategy: Strategy | undefined
  size: Size
  round: number
}
interface Section {
  title: string
  text: string
  table?: { columns: string[]; rows: (string | number)[][] }
}
interface Results {
  text: string
  sections: Section[]
}
interface Modules {
  parseStorm(text: string): { seconds: number; composes: number[] }
  parseNeighbour(text: string): { latencies: [number, number][] }
  toLatencies(latencies: [number, number][]): { count: number; percentile(percent: number): number }
  STRATEGIES: Strategy[]
  cellsOf(strategies: Strategy[], plan: object): Record<'storms' | 'besides' | 'traces', Cell[]>
  report(what: object): Results & { raw: { besides: { slower: Record<string, number> }[] } }
}
const files = ['storm', 'strategies', 'main', 'report'].map(
  (name) => new URL(`../../bench/contention/${name}.mjs`, import.meta.url).href,
)
const { parseStorm, parseNeighbour, toLatencies, STRATEGIES, cellsOf, report }: Modules = Object.assign(
  {},
  ...(await Promise.all(files.map((file) => import(file)))),
)

t.test('what storms and the neighbour print is read, and nothing else', (t) => {
  t.throws(() => parseStorm('cannot mount'), /^a storm printed no JSON \(.*\): cannot mount/)
  for (const text of [
    '{}',
    '{"seconds":0,"composes":[]}',
    '{"seconds":1,"composes":["1"]}',
    '{"seconds":1,"composes":[-1]}',
  ])
    t.throws(() => parseStorm(text), /^a storm must print seconds and composes, not /)
  const neighbour = {
    seconds: 1,
    onCpu: null,
    waitedForCpu: null,
    slept: 0,
    latencies: [
      [1000, 99],
      [5000, 1],
    ],
  }
  const { latencies } = parseNeighbour(JSON.stringify(neighbour))
  const recorded = toLatencies(latencies)
  t.equal(recorded.count, 100)
  t.ok(Math.abs(recorded.percentile(50) - 1) < 0.01)
  t.ok(Math.abs(recorded.percentile(100) - 5) < 0.05)
  t.throws(() => parseNeighbour('{"seconds":1,"latencies":[[1000,0]]}'), /^neighbour must print /)
  t.end()
})

const plan = {
  layers: [50, 1],
  concurrencies: [1, 2, 4, 8],
  rounds: 2,
  containers: 10,
  seconds: 1,
  beside: { layers: 50, concurrency: 4, seconds: 1, rounds: 2 },
  trace: { layers: 50, concurrency: 4, containers: 10, seconds: 1 },
}

t.test('every strategy is in every round, with every size, and none is always first', (t) => {
  const { storms, besides, traces } = cellsOf(STRATEGIES, plan)
  t.equal(storms.length, STRATEGIES.length * 2 * 4 * 2)
  const names = storms.map(
    ({ strategy, size, round }) => `${strategy?.name} ${size.layers} ${size.concurrency} ${round}`,
  )
  t.equal(new Set(names).size, storms.length)
  t.not(storms[0]?.strategy, storms[storms.length / 2]?.strategy)
  t.equal(besides.length, (STRATEGIES.length + 2) * 2)
  t.equal(besides.filter(({ strategy }) => strategy === undefined).length, 2, 'an idle host for comparison')
  t.strictSame(
    traces.map(({ strategy }) => strategy),
    STRATEGIES,
  )
  t.end()
})

const machine = { cpus: 8, allowedCpus: 6, sockets: 2 }
const nothing = { storms: [], besides: [], traces: [], failures: [], strategies: STRATEGIES, plan, machine }

const sectionOf = ({ sections }: Results, title: RegExp): Section => {
  const found = sections.find((section) => title.test(section.title))
  if (found === undefined) throw new Error(`no section ${title}`)
  return found
}

t.test('the report says which machine, what failed, and what was not seen', (t) => {
  const failures = [{ name: 'storm, floor n', message: 'clone: No space left on device' }]
  const results = report({ ...nothing, failures, untraced: 'bpftrace is not installed' })
  t.match(
    results.text,
    /6 of its 8 CPUs on 2 sockets, and on no other\. \*\*More cores and more sockets were not measured\.\*\*/,
  )
  t.match(results.text, /- \*\*failed, and is missing here: storm, floor n\*\*\n?/)
  t.match(sectionOf(results, /^Grace periods/).text, /Not counted here: bpftrace is not installed/)
  t.strictSame(
    sectionOf(results, /^Grace periods/).table?.rows.map(([name, , waits, passed]) => [name, waits, passed]),
    [
      ['overlayfd', '2', 'not counted'],
      ['overlayfd, own mapping', '2.02', 'not counted'],
      ['per layer', '52', 'not counted'],
      ['common parent', '3', 'not counted'],
      ['floor k', '2', 'not counted'],
      ['floor m', '2', 'not counted'],
      ['floor n', '2.02', 'not counted'],
    ],
  )
  t.equal(sectionOf(results, /^Waits for locks/).text, 'Not seen here: bpftrace is not installed.')
  t.match(sectionOf(results, /^The best concurrency, 1 layer/).text, /- floor k: Nothing was measured\./)
  t.end()
})

t.test('the report finds the best concurrency, and leaves out percentiles of a few', (t) => {
  const [strategy] = STRATEGIES
  // 1000 at first, four times that at most, and less again
  const perSecond: Record<number, number> = { 1: 1000, 2: 1800, 4: 2600, 8: 2400 }
  const storms = cellsOf([strategy!], plan).storms.map((cell) => ({
    ...cell,
    seconds: 500 / perSecond[cell.size.concurrency]!,
    placement: '2 of 8 CPUs',
    composes: Array.from({ length: 500 }, (_, i) => 100 + i),
  }))
  const results = report({ ...nothing, strategies: [strategy], storms })
  t.match(
    sectionOf(results, /^The best concurrency, 50 layers/).text,
    /- overlayfd: Best measured: 2,600\/s at a concurrency of 4\. Best by the law: .* at a concurrency of [456]/,
  )
  t.match(results.text, /one process of overlayfd \(its composing threads: 2 of 8 CPUs\)\./)
  const { table } = sectionOf(results, /^From the call to the mount, 1 layer/)
  t.strictSame(table?.rows[2], ['overlayfd', 4, '2,600 ±0 %', '0.349', '0.594', '–', 1000])
  t.end()
})

t.test('the report sets locks, stacks and the neighbour side by side', (t) => {
  const [first, second] = STRATEGIES as [Strategy, Strategy]
  const size = { ...plan.trace, containers: 2 }
  const wait = (lock: string, nanoseconds: number) => ({
    kind: 'spin',
    isRead: false,
    lock,
    frames: ['a', 'b'],
    count: 4,
    nanoseconds,
  })
  const traces = [
    {
      strategy: first,
      size,
      round: 0,
      seconds: 1,
      composes: [1, 1],
      gracePeriods: 3,
      waits: [wait('mount_lock', 8000)],
    },
    {
      strategy: second,
      size,
      round: 0,
      seconds: 1,
      composes: [1],
      gracePeriods: 3,
      waits: [wait('sb_lock', 9000)],
    },
  ]
  const latencies = [
    [1000, 999],
    [2_000_000, 1],
  ]
  const besides = [
    { strategy: undefined, size, round: 0, seconds: 2, onCpu: 1.5, waitedForCpu: 0.4, slept: 1, latencies },
    { strategy: first, size, round: 0, seconds: 2, onCpu: null, waitedForCpu: null, slept: 1, latencies },
  ]
  const results = report({ ...nothing, strategies: [first, second], traces, besides })
  t.strictSame(sectionOf(results, /^Waits for locks/).table, {
    columns: ['lock', 'kind', 'overlayfd', 'overlayfd, own mapping'],
    rows: [
      ['sb_lock', 'spin', '–', '9 (4×)'],
      ['mount_lock', 'spin', '4 (2×)', '–'],
    ],
  })
  t.strictSame(sectionOf(results, /^Where they wait/).table?.rows[0], ['overlayfd', '4', '2', 'a ← b'])
  t.strictSame(sectionOf(results, /^Grace periods/).table?.rows[0], ['overlayfd', 50, '2', '1.5', 4])
  const rows = sectionOf(results, /neighbour/).table?.rows
  t.match(rows?.[0], ['no storm', '500', '1', /^1/, /^(1|2,0)/, /^2/, '20 %', '5 %'])
  t.match(rows?.[1], [
    'overlayfd',
    '500',
    '1',
    /^1/,
    /^(1|2,0)/,
    /^2/,
    'not counted here',
    'not counted here',
  ])
  t.match(results.text, /\*\*The machine was not idle\*\*: .* had none for 20 % of the time/)
  const quiet = besides.map((each) => ({ ...each, waitedForCpu: 0.01 }))
  t.notMatch(report({ ...nothing, besides: quiet }).text, /not idle/)
  t.notMatch(report(nothing).text, /not idle/)
  const slower = results.raw.besides[0]?.slower
  t.strictSame([slower?.[1], slower?.[1000], slower?.[3000]], [1, 1, 0])
  t.end()
})

const needs = all(privileged, programs('cc', 'unshare'))

t.test('storm.c tells of calls that fail', needs, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'overlayfd-test-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const program = join(directory, 'storm')
  const built = await run('cc', ['-O2', '-pthread', '-o', program, join(root, 'bench/contention/storm.c')])
  t.equal(built.status, 0, built.stderr)
  t.match(await run(program, ['m', '2']), { status: 2, stderr: /^usage: / })
  // where its directory is to be is a file
  writeFileSync(join(directory, 'storm.d'), '')
  const ended = await run(program, ['m', '2', '1', '1', '1', 'begun'], { cwd: directory })
  t.match(ended, { status: 1, stderr: /mount\("storm".*: Not a directory/ })
})

t.test(
  'a quick run: every strategy, every concurrency, the neighbour, and nothing left',
  needs,
  async (t) => {
    const output = mkdtempSync(join(tmpdir(), 'overlayfd-test-'))
    t.teardown(() => rmSync(output, { recursive: true }))
    const TMPDIR = mkdtempSync(join(tmpdir(), 'overlayfd-test-'))
    t.teardown(() => rmSync(TMPDIR, { recursive: true }))
    const before = mounts().length
    const only = ['overlayfd', 'per layer', 'floor m']
    const args = only.flatMap((name) => ['--only', name])
    const bench = [join(root, 'bench/main.mjs'), 'contention', '--quick', '--output', output, ...args]
    const ended = await run(process.execPath, bench, { timeout: 120_000, env: { TMPDIR } })
    t.equal(ended.status, 0, ended.stderr)

    const { raw } = JSON.parse(readFileSync(join(output, 'contention.json'), 'utf8'))
    t.strictSame(raw.failures, [])
    const cells = raw.storms.map(
      ({ strategy, size }: { strategy: string; size: Size }) => `${strategy} ${size.concurrency}`,
    )
    t.strictSame(
      cells.toSorted(),
      only.flatMap((name) => [1, 4, 16, 64].map((each) => `${name} ${each}`)).toSorted(),
    )
    for (const storm of raw.storms) {
      t.ok(
        storm.containers > 0 && storm.containers <= storm.size.containers,
        `${storm.containers} containers`,
      )
      t.ok(storm.composes.p50 > 10, `${storm.strategy}: ${storm.composes.p50} µs`)
    }
    t.strictSame(
      raw.besides.map(({ strategy }: { strategy: string | null }) => strategy),
      [null, 'computing threads', ...only],
    )
    for (const { strategy, latencies, slower } of raw.besides) {
      t.ok(latencies.count > 100, `${strategy}: ${latencies.count} lookups`)
      t.ok(slower[1] <= latencies.count && slower[100000] <= slower[1])
    }
    if (raw.untraced === undefined) {
      const [overlayfd, perLayer] = raw.traces
      t.ok(overlayfd.gracePeriods > 0, `${overlayfd.gracePeriods} grace periods`)
      t.ok(perLayer.stacks.length > 0 && perLayer.locks.length > 0)
    } else {
      t.match(readFileSync(join(output, 'contention.md'), 'utf8'), raw.untraced)
    }
    t.strictSame(readdirSync(output).toSorted(), [
      'contention-neighbour.svg',
      'contention-p99-50.svg',
      'contention-throughput-50.svg',
      'contention.json',
      'contention.md',
    ])
    t.match(readFileSync(join(output, 'contention-throughput-50.svg'), 'utf8'), /^<svg [\s\S]*per layer/)
    t.equal(mounts().length, before)
    t.strictSame(readdirSync(TMPDIR), [])
  },
)
