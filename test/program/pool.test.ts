import { spawn } from 'node:child_process'
import { getEventListeners, once } from 'node:events'
import { closeSync, openSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { binding } from '../../lib/binding.js'
import { MountError } from '../../lib/errors.js'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { failedStep, type Outcome, UnexpectedError } from '../../lib/program/outcome.js'
import { cwd, type Plan } from '../../lib/program/plan.js'
import { Pool } from '../../lib/program/pool.js'
import { identityOf } from '../../lib/program/result.js'
import { statxField } from '../../lib/program/step.js'
import { dist, run } from '../support/child.js'
import { fds } from '../support/counts.js'
import { gate } from './gate.js'
import { closeOutputs, errno, fdTests, planOf } from './programs.js'

const test = fdTests(t)
const dirFlags = f.O_PATH | f.O_DIRECTORY
const mkdirs = (...paths: string[]) => planOf((b) => b.add(...paths.map((path) => c.mkdir(path, 0o700))))

/** The same plan by both ways: what came of it, or what was thrown. */
const bothWays = async (pool: Pool, plan: () => Plan): Promise<unknown[]> => {
  const found: unknown[] = [await pool.run(plan()).catch((error: unknown) => error)]
  try {
    found.push(pool.runSync(plan()))
  } catch (error) {
    found.push(error)
  }
  return found
}

test('an outcome', async (t, poolOf) => {
  const report = c.statxPath(cwd, '/', true, { report: true })
  const silent = c.statxPath(cwd, '/', true)
  const plan = planOf((b) => {
    b.add(silent, report, c.openat(b.output(b.slot('/')), cwd, '/', dirFlags))
  })
  for (const outcome of (await bothWays(poolOf(), () => plan)) as Outcome[]) {
    t.equal(outcome.plan, plan)
    t.equal(fds().get(outcome.outputs[0]!), '/')
    t.ok(identityOf(outcome.report(report)!).ino > 0n)
    t.equal(outcome.report(silent), undefined)
    t.equal(outcome.report(c.chdir('/')), undefined, 'a step of another plan')
    t.equal(closeOutputs(outcome), 1)
  }
})

test('a failure is a MountError', async (t, poolOf) => {
  const subject = { option: 'lowerdir', index: 1, path: '/nonexistent' }
  const step = c.openat({ slot: 0, name: 'x' }, cwd, '/nonexistent', f.O_PATH, { subject })
  const plan = planOf((b) => b.add(c.chdir('/'), step), 1)
  for (const error of await bothWays(poolOf(), () => plan)) {
    t.type(error, MountError)
    t.match(error, {
      code: 'ENOENT',
      errno: -2,
      syscall: 'openat',
      call: 'openat(AT_FDCWD, "/nonexistent", O_RDONLY|O_CLOEXEC|O_PATH, 0)',
      path: '/nonexistent',
      step: 1,
      log: [],
    })
    t.equal(failedStep(error as MountError), step, 'diagnose.ts finds the step')
  }
})

test('what was expected and not found', async (t, poolOf) => {
  const step = c.statxPath(cwd, '/', true, { expect: [{ field: statxField.ino, value: 0n }] })
  const plan = planOf((b) => b.add(step))
  for (const error of await bothWays(poolOf(), () => plan)) {
    t.type(error, UnexpectedError)
    const { found, ...rest } = error as UnexpectedError
    t.equal(rest.plan, plan)
    t.equal(rest.step, step)
    t.ok(identityOf(found).ino > 0n, 'it carries what was there')
    t.match((error as Error).message, /^unexpected result of statx\(AT_FDCWD, "\/", /)
  }
})

test('what is no program, or takes over what it may not', async (t, poolOf) => {
  const pool = poolOf()
  const nul = planOf((b) => b.add({ call: 'chdir', args: [{ kind: 'text', text: 'a\0b' }] }))
  for (const error of await bothWays(pool, () => nul)) {
    t.match(error, { name: 'Error', message: 'the addon refused the program of plan test' })
  }
  const foreign = planOf((b) => void b.input('stdin', 0))
  for (const error of await bothWays(pool, () => foreign)) t.type(error, TypeError)
  t.equal(await pool.settle(), false, 'nothing is pending')
})

test('an abort', async (t, poolOf) => {
  const pool = poolOf()
  const dir = t.testdir({})
  const { plan, isRunning, release } = gate(dir)
  const [early, queued, running, late] = Array.from({ length: 4 }, () => new AbortController())
  early!.abort(new Error('early'))
  await t.rejects(pool.run(mkdirs(join(dir, 'never')), early!.signal), { message: 'early' })

  const first = pool.run(plan(), running!.signal)
  const second = pool.run(mkdirs(join(dir, 'never')), queued!.signal)
  await isRunning()
  queued!.abort(new Error('queued'))
  await t.rejects(second, { message: 'queued' }, 'from the queue, while the other one runs')
  running!.abort(new Error('running'))
  await release(first)
  await t.rejects(first, { message: 'running' })
  t.same(readdirSync(dir), ['always', 'gate'], 'no step after the abort, but undo and always steps')

  closeSync(openSync(join(dir, 'x'), 'w'))
  await pool.run(planOf((b) => b.add(c.rmdir(cwd, join(dir, 'always')))))
  const committed = pool.run(plan(true), late!.signal)
  await isRunning()
  late!.abort()
  await release()
  t.match(await committed, { outputs: [] }, 'too late: something is visible')
  t.same(readdirSync(dir), ['after', 'always', 'before', 'gate', 'x'])
  for (const { signal } of [early!, queued!, running!, late!]) t.same(getEventListeners(signal, 'abort'), [])
})

test('an abort of what has ended, and one signal for many', async (t, poolOf) => {
  const pool = poolOf()
  const dir = t.testdir({})
  const { plan, isRunning, release } = gate(dir)
  const abort = new AbortController()
  await pool.run(mkdirs(join(dir, 'x')), abort.signal)
  const first = pool.run(plan(), abort.signal)
  const others = Array.from({ length: 20 }, (_, i) => pool.run(mkdirs(join(dir, `${i}`)), abort.signal))
  await isRunning()
  abort.abort(new Error('all of them'))
  await release(first)
  const ended = await Promise.allSettled([first, ...others])
  t.ok(ended.every((one) => one.status === 'rejected' && one.reason.message === 'all of them'))
  t.same(readdirSync(dir), ['always', 'gate', 'x'])
})

test('an aborted program in the queue closes what it took over', async (t, poolOf) => {
  const pool = poolOf()
  const { plan, isRunning, release } = gate(t.testdir({}))
  const { outputs } = pool.runSync(planOf((b) => b.add(c.openat(b.output(b.slot('/')), cwd, '/', dirFlags))))
  const blocked = pool.run(plan())
  await isRunning()
  const abort = new AbortController()
  const taking = planOf((b) => b.always(c.close(b.input('/', outputs[0]!))))
  const dropped = pool.run(taking, abort.signal)
  t.equal(binding.ownedFds(), 0, 'it belongs to the program from the call on')
  abort.abort(new Error('dropped'))
  await t.rejects(dropped, { message: 'dropped' })
  t.notOk(fds().has(outputs[0]!))
  await release()
  await blocked
})

test('programs of one thread run in order', async (t, poolOf) => {
  const dir = t.testdir({})
  const pool = poolOf()
  const ended: number[] = []
  // each needs the directory that the one before it makes
  const path = (depth: number) => join(dir, 'x/'.repeat(depth))
  const runs = Array.from({ length: 50 }, (_, i) =>
    pool.run(mkdirs(path(i + 1))).then(() => void ended.push(i)),
  )
  await Promise.all(runs)
  t.same(
    ended,
    Array.from({ length: 50 }, (_, i) => i),
  )
})

/** Changes the directory of its thread: such a program is not for the caller's. */
const elsewhere = (path: string) => planOf((b) => b.add(c.chdir('/'), c.mkdir(path, 0o700)))

test('a blocking program waits for what runs, not for what is queued', async (t, poolOf) => {
  const dir = t.testdir({})
  const pool = poolOf()
  const { plan, path, isRunning } = gate(dir)
  const first = pool.run(plan())
  let ended = 0
  const queued = ['a', 'b', 'c'].map((name) => pool.run(mkdirs(join(dir, name))).finally(() => ended++))
  await isRunning()
  pool.runSync(planOf((b) => b.add(c.openat(b.slot('dir'), cwd, dir, f.O_PATH))))
  t.notOk(readdirSync(dir).includes('after'), 'one that leaves its thread alone waits for none')
  const opener = spawn('sh', ['-c', 'sleep 0.2; : > "$0"', path], { stdio: 'ignore' })
  pool.runSync(elsewhere(join(dir, 'c')))
  t.ok(readdirSync(dir).includes('after'), 'what ran has ended')
  t.equal(ended, 0, 'results wait for the event loop')
  await first
  const results = await Promise.allSettled(queued)
  t.same(
    results.map((result) => (result.status === 'rejected' ? result.reason.code : 'made')),
    ['made', 'made', 'EEXIST'],
  )
  if (opener.exitCode === null) await once(opener, 'exit')
})

test('close refuses while something is to be done', async (t, poolOf) => {
  const { plan, isRunning, release } = gate(t.testdir({}))
  const pool = poolOf()
  const blocked = pool.run(plan())
  await isRunning()
  t.throws(() => pool.close(), { name: 'TypeError', message: 'the pool has jobs' })
  await release()
  t.equal(await pool.settle(), true)
  t.match(await blocked, { outputs: [] })
  t.equal(await pool.settle(), false)
})

test('a pool is closed as soon as its last job has answered', (t) => {
  const dir = t.testdir({ a: {} })
  // on an owned thread: chdir does not leave its thread alone
  const plan = planOf((b) => b.add(c.chdir(join(dir, 'a'))))
  for (let i = 0; i < 500; i++) {
    const pool = new Pool({ name: 'closing', threads: 2, cpus: [] })
    pool.runSync(plan)
    t.doesNotThrow(() => pool.close())
  }
})

type Dispatch = (memory: Uint8Array, words: number) => void

/** The module over another addon. */
const poolOver = async (t: Test, addon: object) => {
  const over = { '../../lib/binding.js': { binding: addon } }
  const path = '../../lib/program/delivery.js'
  const delivery = await t.mockImport<typeof import('../../lib/program/delivery.js')>(path, over)
  return t.mockImport<typeof import('../../lib/program/pool.js')>('../../lib/program/pool.js', {
    ...over,
    [path]: delivery,
  })
}

/** The pool over an addon that does nothing, which tells what it was asked for. */
const mockedPool = async (t: Test) => {
  const calls: string[] = []
  let dispatch: Dispatch | undefined
  const addon = {
    createPool: () => 7,
    closePool: () => {},
    setDispatcher: (own: Dispatch) => {
      dispatch = own
    },
    submit: (pool: number, job: number) => calls.push(`submit ${pool} ${job}`),
    abort: (pool: number, job: number) => calls.push(`abort ${pool} ${job}`),
  }
  const { Pool: Mocked } = await poolOver(t, addon)
  const pool = new Mocked({ name: 'x', threads: 1, cpus: [] })
  /** Hands the pool results: job, status, step, errno of each. */
  const answer = (...heads: [job: number, ...rest: number[]][]) => {
    const words = heads.flatMap((head) => [12, ...Array.from({ length: 11 }, (_, i) => head[i] ?? 0)])
    dispatch!(new Uint8Array(new Uint32Array([...words, 99, 99]).buffer), words.length)
  }
  return { pool, calls, answer }
}

t.test('a signal that fires when a program has ended does not reach the addon', async (t) => {
  const { pool, calls, answer } = await mockedPool(t)
  const abort = new AbortController()
  const runs = Array.from({ length: 3 }, () => pool.run(mkdirs('/x'), abort.signal))
  answer([1, 0], [2, 1, 0, errno.ENOENT], [4711, 4])
  abort.abort()
  t.same(calls, ['submit 7 1', 'submit 7 2', 'submit 7 3', 'abort 7 3'])
  answer([3, 0])
  const ended = await Promise.allSettled(runs)
  t.same(
    ended.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
    'what comes back decides: it was too late',
  )
})

t.test('results of many programs come together', async (t) => {
  const { pool, answer } = await mockedPool(t)
  const order: string[] = []
  const plan = mkdirs('/x')
  const start = (i: number) =>
    pool.start({ plan }, (error, outcome) => order.push(`${i} ${outcome ? 'done' : (error as Error).name}`))
  for (let i = 1; i <= 4; i++) start(i)
  answer([3, 0], [1, 1, 0, errno.ENOENT], [4, 4], [2, 0])
  t.same(
    order,
    ['3 done', '1 MountError', '4 Error', '2 done'],
    'each its own, in the order in which they ended',
  )
  t.equal(pool.pending, 0)
})

t.test('a pool that cannot be made', async (t) => {
  const { Pool: Mocked } = await poolOver(t, { setDispatcher() {}, createPool: () => -errno.EAGAIN })
  t.throws(() => new Mocked({ name: 'x', threads: 1, cpus: [] }), {
    name: 'SyscallError',
    code: 'EAGAIN',
    syscall: 'pthread_create',
    call: 'pthread_create(x)',
    hint: /^the limit of processes and threads is reached/,
  })
})

t.test('a pool that is dropped ends when its programs have', async (t) => {
  const { path } = gate(t.testdir({}))
  const script = `
    import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs'
    import { setTimeout as sleep } from 'node:timers/promises'
    import { Pool } from '${dist('program/pool.js')}'
    import { cwd, PlanBuilder } from '${dist('program/plan.js')}'
    import { openat } from '${dist('program/calls.js')}'
    const count = () => readdirSync('/proc/self/task').filter((tid) =>
      readFileSync('/proc/self/task/' + tid + '/comm', 'utf8') === 'dropped\\n').length
    const collected = async (wanted) => {
      for (let i = 0; i < 20 && count() > wanted; i++) { gc(); await sleep(10) }
      return count()
    }
    const b = new PlanBuilder('wait')
    b.add(openat(b.slot('gate'), cwd, process.argv[1], 0))
    const start = () => {
      const pool = new Pool({ name: 'dropped', threads: 2, cpus: [] })
      const running = pool.run(b.build())
      try { pool.close() } catch {}
      return running
    }
    const running = start()
    const meanwhile = await collected(0)
    closeSync(openSync(process.argv[1], 'w'))
    const { outputs } = await running
    console.log(JSON.stringify([meanwhile, outputs, await collected(0)]))
  `
  const flags = ['--expose-gc', '--input-type=module', '--eval']
  const { status, stdout, stderr } = await run(process.execPath, [...flags, script, path])
  t.same({ status, stderr, found: JSON.parse(stdout || '[]') }, { status: 0, stderr: '', found: [2, [], 0] })
})
