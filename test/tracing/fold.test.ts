/** What tracers print, folded, and the format that comes of it: tables of text, no kernel. */
import t from 'tap'
import { root } from '../support/child.js'
import { parseFolded } from './folded.js'

type Sums = Map<string, number>
type Fold = (events: AsyncIterable<unknown>, pid?: number) => Promise<Sums>
interface Folded {
  add(sums: Sums, frames: readonly string[], weight: number): void
  only(sums: Sums, beginning: string): Sums
  render(sums: Sums): string
  heaviest(sums: Sums, count?: number): string[]
}
interface Bpftrace {
  foldMap(text: string, map: string): { sums: Sums; rest: string }
}
interface Perf {
  events(lines: Iterable<string>): AsyncIterable<unknown>
  foldSamples: Fold
  foldOffCpu: Fold
  foldLocks: Fold
}
const load = (name: string): Promise<unknown> =>
  import(new URL(`tracing/fold/${name}.mjs`, `file://${root}`).href)
const { add, only, render, heaviest } = (await load('folded')) as Folded
const { foldMap } = (await load('bpftrace')) as Bpftrace
const perf = (await load('perf')) as Perf
const text = (...lines: string[]) => lines.join('\n')
const foldPerf = async (fold: Fold, lines: string[], pid?: number) =>
  Object.fromEntries(await fold(perf.events(lines), pid))

t.test('any text becomes a frame that both readers take for one', async (t) => {
  const cases: [frames: string[], line: string][] = [
    [['node', 'main'], 'node;main 1'],
    [['a;b', 'c'], 'a:b;c 1'],
    [['node', ''], 'node;[unknown] 1'],
    [['two\nlines\there', ' c '], 'two lines here;c 1'],
    [['open layers', 'fsopen'], 'open layers;fsopen 1'],
    [['worker 12'], 'worker_12 1'],
    [['a 1 2.5'], 'a 1_2.5 1'],
    [['worker 12', 'main'], 'worker_12;main 1'],
    [['operator new(unsigned long)'], 'operator new(unsigned long) 1'],
    [['é\u2028x'], 'é x 1'],
  ]
  for (const [frames, line] of cases) {
    const sums: Sums = new Map()
    add(sums, frames, 1)
    t.equal(render(sums), `${line}\n`)
    t.doesNotThrow(() => parseFolded(render(sums)), line)
  }
})

t.test('the file: sums, whole numbers, in order, without what rounds to nothing', async (t) => {
  const sums: Sums = new Map()
  for (const [frame, weight] of [
    ['b', 1.2],
    ['a', 2],
    ['b', 1.4],
    ['c', 0.4],
    ['d', 0],
  ] as const)
    add(sums, ['x', frame], weight)
  t.equal(render(sums), 'x;a 2\nx;b 3\n')
  t.equal(render(new Map()), '')
})

t.test('some stacks only, by the beginning of a frame', async (t) => {
  const sums = new Map([
    ['node;synchronize_rcu_expedited;schedule', 1],
    ['node;io_schedule', 2],
    ['synchronize', 3],
  ])
  t.same([...only(sums, 'synchronize_rcu').keys()], ['node;synchronize_rcu_expedited;schedule'])
})

t.test('the heaviest in words', async (t) => {
  const sums = new Map([
    ['node;a;b', 1],
    ['node;c', 2],
    ['reap;1;2;3;4;5;6;7;8', 5],
  ])
  t.same(heaviest(sums, 2), [' 63 % 5 reap: 8 < 7 < 6 < 5 < 4 < 3', ' 25 % 2 node: c'])
  t.same(heaviest(new Map()), [])
})

t.test('maps of bpftrace', async (t) => {
  const printed = text(
    '@errnos[mkdirat, 17]: 3',
    '@ns[open layers, fsopen]: 12',
    '@ns[unmount, umount2]: 30',
    '@us[node, ',
    '    exp_funnel_lock+161',
    '    synchronize_rcu_expedited+0xd1',
    ']: 17',
    '@us[a, b, ',
    '    schedule+35',
    ']: 4',
    '@us[node, ',
    '    exp_funnel_lock+200',
    '    synchronize_rcu_expedited+209',
    ']: 3',
    '@us[swapper/0, ]: 9',
    '@us[idle, ',
    ']: 8',
    '',
    '',
    '',
    '@microseconds[mutex]: ',
    '[1]   3 |@@|',
    '',
  )
  t.same(Object.fromEntries(foldMap(printed, 'ns').sums), { 'open layers;fsopen': 12, 'unmount;umount2': 30 })
  const { sums, rest } = foldMap(printed, 'us')
  t.same(Object.fromEntries(sums), {
    'node;synchronize_rcu_expedited;exp_funnel_lock': 20,
    'a, b;schedule': 4,
    'swapper/0': 9,
    idle: 8,
  })
  t.equal(
    rest,
    text(
      '@errnos[mkdirat, 17]: 3',
      '@ns[open layers, fsopen]: 12',
      '@ns[unmount, umount2]: 30',
      '',
      '@microseconds[mutex]: ',
      '[1]   3 |@@|',
    ),
    'everything else stays',
  )
  t.same(foldMap('', 'us'), { sums: new Map(), rest: '' })
  t.equal(foldMap('@usual[x]: 1', 'us').sums.size, 0, 'another map whose name begins so')
})

t.test('samples of perf', async (t) => {
  const lines = [
    'node 22768/22769 12133.494152264: cpu-clock: ',
    '\tffffffff821f94c3 schedule',
    '\t           1ab78 v8::internal::Execute(v8::Isolate*, bool)',
    '\t           12345 [unknown]',
    '',
    'swapper     0/0     12133.494152300: cpu-clock: ',
    '\tffffffff821f94c3 default_idle',
    '',
    ' tokio worker 7   815/816   12133.500000000: cpu-clock:ppp: ',
    '',
    'node 22768/22769 12133.594152264: cpu-clock: ',
    '\tffffffff821f94c3 schedule',
    '\t           1ab78 v8::internal::Execute(v8::Isolate*, bool)',
    '\t           12345 [unknown]',
  ]
  const stack = 'node;[unknown];v8::internal::Execute(v8::Isolate*, bool);schedule'
  t.same(await foldPerf(perf.foldSamples, lines), { [stack]: 2, 'tokio worker_7': 1 })
  t.same(await foldPerf(perf.foldSamples, lines, 815), { 'tokio worker_7': 1 })
})

const switched = (pid: number, at: string, previous: string, state: string, next: string) =>
  `x ${pid}/1 10.${at}: sched:sched_switch: prev_comm=x prev_pid=${previous} prev_prio=120 prev_state=${state} ==> next_comm=a ==> b next_pid=${next} next_prio=120`

t.test('time off the CPU, from the switch away to the switch back', async (t) => {
  const lines = [
    switched(4, '000000000', '41', 'D', '0'),
    '\tffffffff821f94c3 __schedule',
    '\tffffffff821f94c3 wait',
    '',
    switched(0, '000010000', '0', 'R', '5'),
    '\tffffffff821f94c3 do_idle',
    '',
    switched(5, '000020500', '5', 'R+', '41'),
    '\tffffffff821f94c3 __schedule',
    '',
    switched(4, '000021500', '41', 'S', '5'),
    '\tffffffff821f94c3 __schedule',
  ]
  t.same(await foldPerf(perf.foldOffCpu, lines), {
    'x;uninterruptible;wait;__schedule': 20.5,
    'x;runnable;__schedule': 1,
  })
  t.same(
    await foldPerf(perf.foldOffCpu, lines, 4),
    { 'x;uninterruptible;wait;__schedule': 20.5 },
    'of one process',
  )
})

const contended = (tid: number, at: string, name: string, lock: string) =>
  `x ${tid < 10 ? 1 : 2}/${tid} 10.${at}: lock:contention_${name}: ${lock} (${name === 'end' ? 'ret=0' : 'flags=SPIN'})`

t.test('waits for locks, of each thread and lock by itself', async (t) => {
  const lines = [
    contended(1, '000001000', 'begin', '0xa'),
    '\tffffffff821f94c3 _raw_spin_lock',
    '',
    contended(11, '000002000', 'begin', '0xa'),
    '\tffffffff821f94c3 mutex_lock',
    '',
    contended(1, '000003000', 'begin', '0xb'),
    '\tffffffff821f94c3 _raw_spin_lock_irq',
    '',
    contended(1, '000004000', 'end', '0xb'),
    contended(1, '000007000', 'end', '0xa'),
    contended(11, '000012000', 'end', '0xa'),
    contended(11, '000013000', 'end', '0xa'),
    contended(1, '000014000', 'begin', '0xc'),
  ]
  const expected = { 'x;_raw_spin_lock': 6, 'x;_raw_spin_lock_irq': 1, 'x;mutex_lock': 10 }
  t.same(
    await foldPerf(perf.foldLocks, lines),
    expected,
    'an end without a begin, and the reverse, are nothing',
  )
  t.same(await foldPerf(perf.foldLocks, lines, 2), { 'x;mutex_lock': 10 }, 'of one process')
})
