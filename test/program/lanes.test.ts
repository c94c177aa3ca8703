import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import * as c from '../../lib/program/calls.js'
import type { Flow } from '../../lib/program/flow.js'
import { Pool } from '../../lib/program/pool.js'
import { gate } from './gate.js'
import { planOf } from './programs.js'

/** A pool of one thread, which waits at a gate, and flows of two programs each that say when they begin and end. */
const setup = (t: Test) => {
  const dir = t.testdir({})
  const pool = new Pool({ name: 'lanes', threads: 1, cpus: [] })
  t.teardown(async () => {
    await pool.settle()
    pool.close()
  })
  const entrance = gate(dir)
  const stopped = pool.run(entrance.plan())
  const said: string[] = []
  const mkdir = (name: string) => planOf((b) => b.add(c.mkdir(join(dir, name), 0o700)))
  function* flow(name: string): Flow<string> {
    said.push(`${name} begins`)
    try {
      yield { plan: mkdir(name), pool, abortable: true }
      yield { plan: mkdir(`${name}/below`), pool, abortable: true }
      return name
    } finally {
      said.push(`${name} ends`)
    }
  }
  return {
    dir,
    pool,
    said,
    flow,
    async release() {
      await entrance.release()
      await stopped
    },
  }
}
const names = (count: number) => Array.from({ length: count }, (_, i) => String(i))

t.test('twice as many as there are threads, the others in the order of their calls', async (t) => {
  const { pool, said, flow, release } = setup(t)
  const all = names(7).map((name) => pool.lanes.drive(flow(name)))
  t.same(said, ['0 begins', '1 begins'])
  t.equal(pool.counts.waiting, 5)
  t.equal(pool.pending, 8, 'those that wait are pending too')
  await release()
  t.same(await Promise.all(all), names(7))
  t.same(
    said.filter((what) => /begins/.test(what)),
    names(7).map((name) => `${name} begins`),
  )
  let open = 0
  const most = said.map((what) => (/begins/.test(what) ? ++open : open--))
  t.equal(Math.max(...most), 2)
  t.match(pool.counts, { waiting: 0, queued: 0 })
  t.equal(pool.pending, 0)
})

t.test('who waits for the pool waits for them too', async (t) => {
  const { pool, said, flow, release } = setup(t)
  const all = names(9).map((name) => pool.lanes.drive(flow(name)))
  const room = pool.fewerThan(4).then(() => said.includes('6 begins'))
  const settled = pool.settle().then(() => said.includes('8 ends'))
  await release()
  t.ok(await room, 'fewer than 4: none is left that waits')
  t.ok(await settled, 'settled: all have ended')
  await Promise.all(all)
})

t.test('aborted while it waits, it never begins', async (t) => {
  const { dir, pool, said, flow, release } = setup(t)
  const abort = new AbortController()
  const all = names(8).map((name, i) => pool.lanes.drive(flow(name), i % 3 === 2 ? abort.signal : undefined))
  const reason = new Error('enough')
  abort.abort(reason)
  t.equal(pool.counts.waiting, 4, 'it does not count any more')
  for (const i of [2, 5]) t.equal(await all[i]?.catch((error) => error), reason, 'at once, with the reason')
  t.same(said, ['0 begins', '1 begins'])
  await release()
  const left = names(8).filter((_, i) => i % 3 !== 2)
  t.same(await Promise.all(left.map((i) => all[Number(i)])), left)
  t.notOk(existsSync(join(dir, '2')) || existsSync(join(dir, '5')))
  t.notOk(said.includes('2 begins') || said.includes('5 begins'))
  t.equal(pool.pending, 0)
  // an abort after the end changes nothing
  t.same(await pool.lanes.drive(flow('last')), 'last')
})

t.test('one that fails is no obstacle, and what ends as it begins is not a call deeper each', async (t) => {
  const { pool, flow, release } = setup(t)
  // biome-ignore lint/correctness/useYield: it comes to no program
  const failing = function* (): Flow<never> {
    throw new Error('refused')
  }
  const first = names(2).map((name) => pool.lanes.drive(flow(name)))
  const refused = Array.from({ length: 20_000 }, () =>
    pool.lanes.drive(failing()).catch(({ message }) => message),
  )
  const last = pool.lanes.drive(flow('last'))
  const missing = pool.lanes.drive(flow('no/where')).catch(({ code }) => code)
  const next = pool.lanes.drive(flow('next'))
  await release()
  await Promise.all(first)
  t.same(new Set(await Promise.all(refused)), new Set(['refused']))
  t.same(await Promise.all([last, missing, next]), ['last', 'ENOENT', 'next'])
  t.equal(pool.pending, 0)
})
