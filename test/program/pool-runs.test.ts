/**
 * What a run of a plan is besides the plan: what fills its holes, how long its steps took, an answer before its end,
 * and what the pool counts of it. pool.test.ts has errors, aborts and order.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { MountError } from '../../lib/errors.js'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { failedStep, UnexpectedError } from '../../lib/program/outcome.js'
import { cwd, type Plan } from '../../lib/program/plan.js'
import type { Trace } from '../../lib/program/pool.js'
import type { Timing } from '../../lib/program/result.js'
import { type Fill, statxField } from '../../lib/program/step.js'
import { fds } from '../support/counts.js'
import { captured } from '../sys/owned.js'
import { gate } from './gate.js'
import { closeOutputs, errno, fdTests, planOf } from './programs.js'

const test = fdTests(t)
const dirFlags = f.O_PATH | f.O_DIRECTORY

/** A plan that is kept by the addon, and what two runs of it fill in. */
const withHoles = (dir: string) =>
  planOf((b) => {
    const [name, ino] = [b.hole('name'), b.hole('ino')]
    const subject = { option: 'target', hole: name }
    b.add(
      c.statxPath(cwd, [dir, '/', name], true, { expect: [{ field: statxField.ino, value: ino }], subject }),
    )
    b.add(c.openat(b.output(b.slot('x')), cwd, [dir, '/', name], dirFlags, { subject }))
  })

test('a plan with holes is run with what each run fills in', async (t, poolOf) => {
  const dir = t.testdir({ a: {}, b: {}, file: '' })
  const pool = poolOf(2)
  const plan = withHoles(dir)
  const inode = (name: string) => statSync(join(dir, name), { bigint: true }).ino
  const runs = Array.from({ length: 100 }, (_, i) => {
    const name = i % 2 ? 'a' : Buffer.from('b')
    return pool.run(plan, undefined, [name, inode(String(name))])
  })
  for (const [i, outcome] of (await Promise.all(runs)).entries()) {
    t.equal(fds().get(outcome.outputs[0]!), join(dir, i % 2 ? 'a' : 'b'))
    closeOutputs(outcome)
  }
  closeOutputs(pool.runSync(plan, ['a', inode('a')]))

  const wrong: [fills: Fill[], expected: object][] = [
    [
      ['none', 0n],
      { name: 'MountError', code: 'ENOENT', path: 'none', call: /\/none", AT_SYMLINK/, step: 0 },
    ],
    [
      ['file', inode('file')],
      { name: 'MountError', code: 'ENOTDIR', path: 'file', call: /\/file", O_/, step: 1 },
    ],
    [['a', inode('b')], { index: 0, plan, message: /^unexpected result of statx\(AT_FDCWD, ".*\/a", / }],
  ]
  const errors = await Promise.all(
    wrong.map(([fills]) => pool.run(plan, undefined, fills).catch((error: unknown) => error)),
  )
  for (const [i, [fills, expected]] of wrong.entries()) {
    t.match(errors[i], expected, 'of this run')
    t.match(
      captured(() => pool.runSync(plan, fills)),
      expected,
    )
    const error = errors[i]
    const step = error instanceof UnexpectedError ? error.step : failedStep(error as MountError)
    t.equal(step?.subject?.path, fills[0], 'the step that diagnose.ts finds is filled')
    t.equal(step?.subject?.hole, undefined)
  }
  const { step } = errors[2] as UnexpectedError
  t.same(step.expect, [{ field: statxField.ino, value: inode('b') }])
})

test('what does not fill the holes of a plan', async (t, poolOf) => {
  const pool = poolOf()
  const plan = withHoles(t.testdir({}))
  for (const fills of [undefined, [], ['a'], ['a', 0n, 'b']]) {
    const refused = { name: 'Error', message: 'the addon refused the program of plan test' }
    await t.rejects(pool.run(plan, undefined, fills), refused, `${fills?.length} fills`)
    t.throws(() => pool.runSync(plan, fills), refused)
  }
  for (const fills of [
    ['a\0b', 0n],
    [Buffer.from('a\0'), 0n],
  ]) {
    await t.rejects(
      pool.run(plan, undefined, fills),
      { name: 'MountError', code: 'EINVAL', step: 0 },
      'a NUL',
    )
  }
  const without = planOf((b) => b.add(c.chdir('/')))
  await t.rejects(pool.run(without, undefined, ['a']), {
    message: 'the addon refused the program of plan test',
  })
  const nul = planOf((b) =>
    b.add(c.chdir('a\0b'), { call: 'chdir', args: [{ kind: 'text', text: b.hole('x') }] }),
  )
  for (let i = 0; i < 2; i++) {
    await t.rejects(pool.run(nul, undefined, ['x']), {
      message: 'the addon refused the program of plan test',
    })
  }
  t.equal(await pool.settle(), false)
})

test('counts', async (t, poolOf) => {
  const pool = poolOf(2)
  t.same(pool.counts, { queued: 0, parked: 0, running: 0, mostQueued: 0, ran: 0, waiting: 0 })
  const dir = t.testdir({ one: {}, two: {} })
  const gates = ['one', 'two'].map((name) => gate(join(dir, name)))
  const running = gates.map(({ plan }) => pool.run(plan()))
  for (const { isRunning } of gates) await isRunning()
  const others = Array.from({ length: 5 }, () => pool.run(planOf((b) => b.add(c.chdir('/')))))
  t.match(pool.counts, { queued: 5, parked: 0, running: 2, mostQueued: 5, ran: 0 })
  t.equal(pool.pending, 7)
  for (const { release } of gates) await release()
  await Promise.all([...running, ...others])
  await pool.settle()
  t.match(pool.counts, { queued: 0, parked: 0, running: 0, mostQueued: 5, ran: 7 })
})

test('a program that answers before its end', async (t, poolOf) => {
  const dir = t.testdir({})
  const pool = poolOf(2)
  const { path, release } = gate(dir)
  const plan = (fails = false) =>
    planOf((b) => {
      const made = c.mkdir(join(dir, 'before'), 0o700, { answers: true, commits: true })
      const out = b.output(b.slot('dir'))
      b.add(c.openat(out, cwd, dir, dirFlags), made, c.openat(b.slot('gate'), cwd, path, f.O_RDONLY))
      b.add(c.mkdir(join(dir, 'after'), 0o700, { answers: true }))
      if (fails) b.add(c.chdir('/nonexistent'))
      b.undo(made, c.rmdir(cwd, join(dir, 'before'))).always(c.mkdir(join(dir, 'end'), 0o700))
    })
  for (const [i, fails] of [false, true].entries()) {
    const outcome = i === 0 ? await pool.run(plan(fails)) : pool.runSync(plan(fails))
    t.same(readdirSync(dir), ['before', 'gate'], 'the rest is still to come')
    t.equal(fds().get(outcome.outputs[0]!), dir, 'what it hands out is there')
    t.equal(closeOutputs(outcome), 1)
    t.equal(pool.pending, 0)
    t.match(pool.counts, { running: 1 })
    const settled = pool.settle()
    t.throws(() => pool.close(), { message: 'the pool has jobs' })
    await release()
    t.equal(await settled, true, 'settle waits for the rest')
    const rest = fails ? ['after', 'end', 'gate'] : ['after', 'before', 'end', 'gate']
    t.same(readdirSync(dir), rest, 'what fails later is told to nobody')
    for (const name of rest)
      if (name !== 'gate') pool.runSync(planOf((b) => b.add(c.rmdir(cwd, join(dir, name)))))
  }
  t.equal(await pool.settle(), false)
})

test('a blocking program that answers before its end blocks until it answers', async (t, poolOf) => {
  const dir = t.testdir({})
  const pool = poolOf()
  const { path } = gate(dir)
  const plan = planOf((b) => {
    b.add(c.mkdir(join(dir, 'before'), 0o700, { answers: true, commits: true }))
    b.add(c.openat(b.slot('gate'), cwd, path, f.O_RDONLY), c.mkdir(join(dir, 'after'), 0o700))
  })
  const opener = spawn('sh', ['-c', 'sleep 0.5; : > "$0"', path], { stdio: 'ignore' })
  pool.runSync(plan)
  t.same(readdirSync(dir), ['before', 'gate'], 'the rest is still to come, though it leaves its thread alone')
  await once(opener, 'exit')
  await pool.settle()
})

test('steps are timed when somebody wants to know', async (t, poolOf) => {
  const pool = poolOf()
  const { path } = gate(t.testdir({}))
  const plan = planOf((b) => {
    const never = c.mkdir('/nonexistent/x', 0o700, { tolerate: [errno.ENOENT] })
    b.add(never, { ...c.chdir('/'), ifDone: never }, c.openat(b.slot('gate'), cwd, path, f.O_RDONLY))
    b.always(c.chdir('/'), c.mkdir(['/', b.slot('empty')], 0o700))
  })
  const seen: [Plan, readonly Timing[]][] = []
  const trace: Trace = { ran: (plan, _, timings) => void seen.push([plan, timings]) }
  const open = () => spawn('sh', ['-c', 'sleep 0.1; : > "$0"', path], { stdio: 'ignore' })
  open()
  await new Promise((resolve) => pool.start({ plan }, resolve, undefined, trace))
  open()
  pool.runSync(plan, undefined, trace)
  t.equal(seen.length, 2)
  for (const [ran, timings] of seen) {
    t.equal(ran, plan)
    const steps = timings.map(({ step }) => step)
    t.same(steps, [0, 2, 3], 'in the order in which they ran, and only those that did')
    const [first, gate] = timings as [Timing, Timing]
    t.ok(first.nanoseconds > 0 && first.nanoseconds < gate.nanoseconds)
    t.ok(gate.nanoseconds > 50e6 && gate.nanoseconds < 60e9, `${gate.nanoseconds} ns at the gate`)
  }
})
