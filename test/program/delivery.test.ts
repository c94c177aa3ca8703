/** How results come back: woken for each, or for several at once and never later than a moment. */
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { binding } from '../../lib/binding.js'
import * as c from '../../lib/program/calls.js'
import { gate } from './gate.js'
import { planOf } from './programs.js'

type Delivery = typeof import('../../lib/program/delivery.js')
type PoolModule = typeof import('../../lib/program/pool.js')

const quick = () => planOf((b) => b.add(c.chdir('/')))

/** The module over an addon that does nothing. */
const mocked = async (t: Test) => {
  const wakes: number[] = []
  let dispatch: ((memory: Uint8Array, words: number) => void) | undefined
  let delivers = 0
  const addon = {
    setDispatcher: (own: typeof dispatch) => {
      dispatch = own
    },
    wakeFor: (results: number) => wakes.push(results),
    deliver: () => {
      delivers++
    },
  }
  const delivery = await t.mockImport<Delivery>('../../lib/program/delivery.js', {
    '../../lib/binding.js': { binding: addon },
  })
  delivery.listen()
  const jobs: number[] = []
  return {
    wakes,
    delivers: () => delivers,
    begin(count: number) {
      for (let i = 0; i < count; i++) {
        const job = delivery.nextJob()
        jobs.push(job)
        delivery.expect(job, () => {})
      }
    },
    end(count: number) {
      const words = jobs.splice(0, count).flatMap((job) => [12, job, ...Array.from({ length: 10 }, () => 0)])
      dispatch!(new Uint8Array(new Uint32Array(words).buffer), words.length)
    },
  }
}

t.test('few are waited for one by one, many together', async (t) => {
  const { begin, end, wakes } = await mocked(t)
  begin(12)
  end(1)
  t.same(wakes, [], '11 under way')
  for (const [more, expected] of [
    [2, 4],
    [13, 8],
    [25, 16],
    [49, 32],
    [1000, undefined],
  ] as const) {
    begin(more)
    end(1)
    t.equal(wakes.shift(), expected, `${more} more`)
  }
  end(1090)
  t.equal(wakes.shift(), 1, 'few again')
})

t.test('who was not woken comes by himself, until nothing comes any more', async (t) => {
  const { begin, end, wakes, delivers } = await mocked(t)
  begin(50)
  end(1)
  t.same(wakes, [16])
  end(1)
  while (wakes.length === 1) await sleep(1)
  t.same(wakes, [16, 1], 'the rest takes long: the next result wakes at once')
  t.ok(delivers() > 0)
  const before = delivers()
  await sleep(20)
  t.equal(delivers(), before, 'and nobody looks any more')
  end(1)
  t.same(wakes, [16, 1, 8])
  end(47)
  t.same(wakes, [16, 1, 8, 1])
  await sleep(20)
  t.ok(delivers() <= before + 1)
})

t.test('on real threads', async (t) => {
  let turns = 0
  const counting = new Proxy(binding, {
    get: (target, name) =>
      name !== 'setDispatcher'
        ? Reflect.get(target, name)
        : (own: (memory: Uint8Array, words: number) => void) =>
            target.setDispatcher((memory, words) => {
              turns++
              own(memory, words)
            }),
  })
  const delivery = await t.mockImport<Delivery>('../../lib/program/delivery.js', {
    '../../lib/binding.js': { binding: counting },
  })
  const { Pool } = await t.mockImport<PoolModule>('../../lib/program/pool.js', {
    '../../lib/program/delivery.js': delivery,
  })
  const pool = new Pool({ name: 'moderated', threads: 1, cpus: [] })
  const { plan, isRunning, release } = gate(t.testdir({}))
  const first = Array.from({ length: 20 }, () => pool.run(quick()))
  const blocked = pool.run(plan())
  await isRunning()
  const late = Symbol('late')
  const before = Promise.all(first)
  t.not(await Promise.race([before, sleep(5000, late)]), late, 'a blocked thread keeps no results back')
  await release()
  await blocked

  // longer than the loop needs for a result: without moderation nearly each has a turn of its own
  const long = planOf((b) => b.add(...Array.from({ length: 60 }, () => c.chdir('/proc/self/fd'))))
  const results = 2000
  let left = results
  turns = 0
  const worker = async () => {
    while (left-- > 0) await pool.run(long, undefined, [])
  }
  await Promise.all(Array.from({ length: 64 }, worker))
  t.ok(turns > 0 && turns < results / 2, `${turns} turns for ${results} results`)
  await pool.settle()
  pool.close()
})
