/**
 * Claims without mounts: which program gets a directory, who waits for one whose claim is ending, and what becomes
 * of those that wait when they are aborted, or their pool is asked for its end.
 */
import { once } from 'node:events'
import { existsSync, rmdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import t, { type Test } from 'tap'
import { binding } from '../../lib/binding.js'
import { MountError } from '../../lib/errors.js'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { claimInTheWay, failedStep, type Outcome } from '../../lib/program/outcome.js'
import { cwd, type Plan } from '../../lib/program/plan.js'
import type { Pool } from '../../lib/program/pool.js'
import { dist } from '../support/child.js'
import { settled } from '../support/counts.js'
import { gate } from './gate.js'
import { fdTests, planOf } from './programs.js'

const test = fdTests(t)
const dirFlags = f.O_PATH | f.O_DIRECTORY

/** Claims directories; then makes `made`, if that is asked for, and fails or is done. */
const claiming = (paths: readonly string[], { made, fails }: { made?: string; fails?: boolean } = {}): Plan =>
  planOf((b) => {
    for (const path of paths) {
      const slot = b.slot(path)
      b.add(c.openat(slot, cwd, path, dirFlags), c.claim(slot, { subject: { option: 'upperdir', path } }))
      b.always(c.close(slot))
    }
    if (made) b.add(c.mkdir(made, 0o700))
    if (fails) b.add(c.chdir('/nonexistent'))
  })
const ending = (claim: number, gatePath?: string): Plan =>
  planOf((b) => {
    b.add(c.retireClaim(claim, { answers: true, commits: true }))
    if (gatePath) b.add(c.openat(b.slot('gate'), cwd, gatePath, f.O_RDONLY))
    b.always(c.dropClaim(claim))
  })
const refusal = async (promise: Promise<unknown>): Promise<object> => {
  const error = await promise.then(
    () => new Error('it was not refused'),
    (thrown) => thrown,
  )
  const { code, path } = error
  return { code, path, by: claimInTheWay(error), step: failedStep(error)?.call }
}

test('a directory is one program’s, by whatever name', async (t, poolOf) => {
  const dir = t.testdir({ a: {}, b: {}, c: {} })
  symlinkSync('a', join(dir, 'link'))
  const pool = poolOf(2)
  const at = (name: string) => join(dir, name)
  const first = await pool.run(claiming([at('a'), at('b')]))
  t.ok(first.claim > 0)
  t.equal(binding.claims(), 1, 'both are one claim')
  t.equal(binding.claimedMount(first.claim), null, 'not settled')
  for (const name of ['a', 'b', 'link', './a/../b']) {
    const refused = { code: 'EBUSY', by: first.claim, step: 'claim', path: at(name) }
    t.match(await refusal(pool.run(claiming([at('c'), at(name)]))), { ...refused, path: at(name) }, name)
  }
  t.equal(binding.claims(), 1, 'what a refused one had claimed before is free')
  const second = await pool.run(claiming([at('c')]))
  t.ok(second.claim > first.claim, 'a number is used once')
  const twice = await pool.run(claiming([at('dir'), at('dir')].map(() => dir)))
  t.ok(twice.claim > 0, 'its own directory is not in its way')
  await t.rejects(pool.run(claiming([at('b')], { fails: true })), { code: 'EBUSY' })
  binding.dropClaim(first.claim)
  await t.rejects(pool.run(claiming([at('b')], { fails: true })), { code: 'ENOENT' })
  t.equal(binding.claims(), 2, 'a failure keeps nothing')
  t.equal((await pool.run(planOf((b) => b.add(c.chdir('/'))))).claim, 0, 'who claims nothing has no claim')
  for (const { claim } of [second, twice, first, first]) binding.dropClaim(claim)
  t.equal(binding.claimedMount(first.claim), undefined)
})

test('what a claim is settled on', async (t, poolOf) => {
  const dir = t.testdir({ a: {}, b: {} })
  const pool = poolOf()
  const [a, b] = [await pool.run(claiming([join(dir, 'a')])), await pool.run(claiming([join(dir, 'b')]))]
  binding.settleClaim(a.claim, 2n ** 63n + 1n, 2n ** 40n + 5n, 2 ** 52)
  t.same(binding.claimedMount(a.claim), [2n ** 63n + 1n, 2n ** 40n + 5n, 2n ** 52n])
  t.equal(binding.claimedMount(b.claim), null)
  binding.settleClaim(b.claim, 7n, 2n ** 40n + 5n, 1)
  t.equal(binding.claimedMount(a.claim), undefined, 'a device is one mount’s at a time: the other is gone')
  binding.settleClaim(b.claim, 8n, 2n ** 40n + 5n, 1)
  t.same(binding.claimedMount(b.claim), [8n, 2n ** 40n + 5n, 1n], 'settled again')
  binding.dropClaim(b.claim)
  binding.settleClaim(b.claim, 7n, 5n, 1)
  t.equal(binding.claims(), 0, 'what is gone is not settled')

  const identifying = planOf((b) => {
    const slot = b.slot('dir')
    b.add(c.openat(slot, cwd, dir, dirFlags), c.claim(slot), c.statxFd(slot, true, { identifies: true }))
    b.add(c.mkdir(join(dir, 'visible'), 0o700, { commits: true })).always(c.close(slot))
  })
  const { claim } = await pool.run(identifying)
  const [mountId, , namespace] = binding.claimedMount(claim) ?? []
  t.ok(mountId! > 0n, 'a program that made something visible has settled its claim itself')
  t.equal(namespace, BigInt(binding.mountNamespace()))
  binding.dropClaim(claim)
})

test('wrong arguments are a TypeError', async (t) => {
  const addon = binding as unknown as Record<string, (...args: unknown[]) => unknown>
  for (const wrong of ['x', -1, null, {}, 0.5]) {
    for (const name of ['dropClaim', 'claimedMount']) {
      t.throws(() => addon[name]?.(wrong), TypeError, `${name} ${wrong}`)
    }
    t.throws(() => addon['settleClaim']?.(wrong, 1n, 1n, 1), TypeError)
    t.throws(() => addon['settleClaim']?.(1, wrong, 1n, 1), TypeError)
    t.throws(() => addon['settleClaim']?.(1, 1n, wrong, 1), TypeError)
    t.throws(() => addon['settleClaim']?.(1, 1n, 1n, wrong), TypeError)
  }
})

interface Parked {
  readonly dir: string
  readonly pool: Pool
  /** the directory is free from here on */
  end(): Promise<void>
  /** starts a program that waits for the directory, and says when it does */
  park(made: string, signal?: AbortSignal): Promise<{ readonly outcome: Promise<Outcome> }>
}

/** A directory whose claim is ending, and will not have ended before `end`. */
const parking = async (t: Test, poolOf: (threads?: number) => Pool, threads = 1): Promise<Parked> => {
  const dir = t.testdir({ a: {}, gate: {}, other: {} })
  const [pool, reaping] = [poolOf(threads), poolOf(1)]
  const { path, release } = gate(join(dir, 'gate'))
  const { claim } = await pool.run(claiming([join(dir, 'a')]))
  await reaping.run(ending(claim, path))
  return {
    dir,
    pool,
    async end() {
      await release()
      await reaping.settle()
    },
    async park(made, signal) {
      const { parked } = pool.counts
      const outcome = pool.run(claiming([join(dir, 'a')], { made: join(dir, made) }), signal)
      outcome.catch(() => {})
      t.equal(
        await settled(
          () => pool.counts.parked,
          (count) => count > parked,
        ),
        parked + 1,
      )
      return { outcome }
    },
  }
}

test('who waits for a directory takes no thread', async (t, poolOf) => {
  const { dir, pool, park, end } = await parking(t, poolOf)
  const first = await park('first')
  t.match(pool.counts, { parked: 1, running: 0, queued: 0 })
  await pool.run(planOf((b) => b.add(c.mkdir(join(dir, 'meanwhile'), 0o700))))
  const second = await park('second')
  t.match(pool.counts, { parked: 2, running: 0, queued: 0 })
  await end()
  const results = await Promise.allSettled([first.outcome, second.outcome])
  t.same(
    results.map((result) => (result.status === 'fulfilled' ? 'done' : result.reason.code)),
    ['done', 'EBUSY'],
    'who came first gets it, and the other is told who has it',
  )
  for (const result of results) if (result.status === 'fulfilled') binding.dropClaim(result.value.claim)
})

test('a blocking program waits for a directory too', async (t, poolOf) => {
  const dir = t.testdir({ a: {}, gate: {} })
  const [pool, reaping] = [poolOf(1), poolOf(1)]
  const { claim } = await pool.run(claiming([join(dir, 'a')]))
  for (let i = 0; i < 50; i++) {
    const { claim: next } = await pool.run(claiming([dir]))
    await reaping.run(ending(next))
    const { claim: again } = pool.runSync(claiming([dir]))
    t.ok(again > next)
    binding.dropClaim(again)
  }
  binding.dropClaim(claim)
})

test('what comes after the answer does not take the claim back', async (t, poolOf) => {
  const dir = t.testdir({ a: {} })
  const pool = poolOf()
  const { path, release } = gate(dir)
  const at = (name: string) => join(dir, name)
  const plan = (fails: boolean) =>
    planOf((b) => {
      const slot = b.slot('a')
      const claimed = c.claim(slot, { subject: { option: 'upperdir', path: at('a') } })
      b.add(c.openat(slot, cwd, at('a'), dirFlags), { ...claimed, answers: true })
      b.add(c.mkdir(at('answered'), 0o700), c.openat(b.slot('gate'), cwd, path, f.O_RDONLY))
      b.add(c.mkdir(at('after'), 0o700))
      if (fails) b.add(c.chdir('/nonexistent'))
      b.always(c.close(slot))
    })
  for (const fails of [false, true]) {
    const abort = new AbortController()
    const running = pool.run(plan(fails), fails ? undefined : abort.signal)
    // this thread does not come to take the answer: as far as it knows, there is still something to abort
    while (!existsSync(at('answered')));
    abort.abort()
    const { claim } = await running
    await release()
    await pool.settle()
    t.ok(existsSync(at('after')), 'it goes on')
    t.ok(claim > 0)
    t.equal(binding.claimedMount(claim), null, 'it is the caller’s')
    binding.dropClaim(claim)
    for (const name of ['answered', 'after']) rmdirSync(at(name))
  }
  t.equal(binding.claims(), 0)
})

test('an abort of a program that waits for a directory', async (t, poolOf) => {
  const { pool, park, end } = await parking(t, poolOf)
  const abort = new AbortController()
  const { outcome } = await park('never', abort.signal)
  const { outcome: other } = await park('made')
  abort.abort(new Error('stopped'))
  await t.rejects(outcome, { message: 'stopped' })
  t.match(pool.counts, { parked: 1 }, 'at once: the other one is still waiting')
  await end()
  binding.dropClaim((await other).claim)
})

test('a pool with a program that waits is not closed, and settles with it', async (t, poolOf) => {
  const { pool, park, end } = await parking(t, poolOf)
  const { outcome } = await park('made')
  t.throws(() => pool.close(), { name: 'TypeError', message: 'the pool has jobs' })
  let isSettled = false
  const settling = pool.settle().then((value) => {
    isSettled = true
    return value
  })
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.equal(isSettled, false)
  await end()
  binding.dropClaim((await outcome).claim)
  t.equal(await settling, true)
})

test('settle() ends with the abort of the last program that waits', async (t, poolOf) => {
  const { dir, pool, park, end } = await parking(t, poolOf, 2)
  const { path, release } = gate(join(dir, 'other'))
  const rest = planOf((b) => {
    b.add(c.chdir('/'), { ...c.chdir('/'), answers: true, commits: true })
    b.add(c.openat(b.slot('gate'), cwd, path, f.O_RDONLY))
  })
  await pool.run(rest)
  const settling = pool.settle()
  const abort = new AbortController()
  const { outcome } = await park('never', abort.signal)
  await release()
  t.ok(await settled(() => pool.counts.running === 0, Boolean))
  abort.abort(new Error('stopped'))
  await t.rejects(outcome, { message: 'stopped' })
  const late = new Promise((resolve) => setTimeout(() => resolve('it waits for ever'), 1000))
  t.equal(await Promise.race([settling, late]), true)
  // where that failed: with the end of another one the addon looks again, so that this test ends
  await pool.run(planOf((b) => b.add(c.chdir('/'))))
  await end()
})

test('what is settled outlives its environment, even if that did not hear of it', async (t, poolOf) => {
  const dir = t.testdir({ a: {} })
  const pool = poolOf()
  const { path, release } = gate(dir)
  const worker = new Worker(
    `const { workerData } = require('node:worker_threads')
    const { program, dir, path } = workerData
    const load = (file) => import(program + '/' + file)
    Promise.all([load('pool.js'), load('plan.js'), load('calls.js')]).then(([{ Pool }, { PlanBuilder, cwd }, c]) => {
      const b = new PlanBuilder('test')
      const slot = b.slot('a')
      b.add(c.openat(slot, cwd, dir + '/a', 0), c.claim(slot), c.statxFd(slot, true, { identifies: true }))
      b.add(c.mkdir(dir + '/visible', 0o700, { commits: true }), c.openat(b.slot('gate'), cwd, path, 0))
      globalThis.running = new Pool({ name: 'worker', threads: 1, cpus: [] }).run(b.build())
    })`,
    { eval: true, execArgv: [], workerData: { program: dist('program'), dir, path } },
  )
  t.ok(await settled(() => existsSync(join(dir, 'visible')), Boolean))
  // it joins its threads, and one of them is at the gate
  const ended = worker.terminate()
  await new Promise((resolve) => setTimeout(resolve, 50))
  await release()
  await ended
  t.equal(binding.claims(), 1, 'something of it is visible, and stays')
  const next = await pool.run(claiming([join(dir, 'a')])).catch((error: MountError) => error)
  t.type(next, MountError, 'so the directory is in use')
  const claim = next instanceof MountError ? claimInTheWay(next) : next.claim
  t.type(binding.claimedMount(claim), Array)
  binding.dropClaim(claim)
})

test('what is not settled goes with its environment', async (t, poolOf) => {
  const dir = t.testdir({ a: {} })
  const pool = poolOf()
  const worker = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads')
    const { program, dir } = workerData
    const load = (file) => import(program + '/' + file)
    Promise.all([load('pool.js'), load('plan.js'), load('calls.js')]).then(async ([{ Pool }, { PlanBuilder, cwd }, c]) => {
      const b = new PlanBuilder('test')
      const slot = b.slot('a')
      b.add(c.openat(slot, cwd, dir + '/a', 0), c.claim(slot))
      await new Pool({ name: 'worker', threads: 1, cpus: [] }).run(b.build())
      parentPort.on('message', () => {}).postMessage('claimed')
    })`,
    { eval: true, execArgv: [], workerData: { program: dist('program'), dir } },
  )
  await once(worker, 'message')
  t.equal(binding.claims(), 1)
  t.match(
    await refusal(pool.run(claiming([join(dir, 'a')]))),
    { code: 'EBUSY' },
    'seen by other environments',
  )
  await worker.terminate()
  t.equal(binding.claims(), 0)
})
