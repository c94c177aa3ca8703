/** Whose fds are whose: those of a program, those it was given, those it hands out, and all others. */
import { closeSync, existsSync, fstatSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { binding } from '../../lib/binding.js'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { encode } from '../../lib/program/encode.js'
import { cwd, held, Plan, PlanBuilder } from '../../lib/program/plan.js'
import { fds } from '../support/counts.js'
import { captured } from '../sys/owned.js'
import { closeOutputs, errno, fdTests, nativePool, planOf } from './programs.js'

const test = fdTests(t)
const dirFlags = f.O_PATH | f.O_DIRECTORY
const fail = c.chdir('/nonexistent')
const pool = nativePool(t)
const run = (add: (b: PlanBuilder) => void) => pool.run(planOf(add))

test('fds belong to the program, then to whom it hands them', async (t) => {
  const dir = t.testdir({ a: {}, b: {} })
  const first = run((b) => {
    const twice = b.output(b.slot('twice'))
    b.add(c.openat(twice, cwd, join(dir, 'a'), dirFlags), c.openat(twice, cwd, join(dir, 'b'), dirFlags))
    b.add(c.openat(b.slot('kept for itself'), cwd, dir, dirFlags))
    b.add(c.openat(b.output(b.slot('file')), cwd, '/proc/self/status', f.O_RDONLY))
  })
  const [onB, file] = first.outputs as [number, number]
  t.equal(binding.ownedFds(), 2)
  t.equal(fds().get(onB), join(dir, 'b'), 'a slot that is filled again closes what it held')

  const add = (isFailing: boolean) => (b: PlanBuilder) => {
    const input = b.input('b', onB)
    b.output(b.input('file', file))
    b.add(c.fchdir(input), c.mkdir('made', 0o700, { tolerate: [errno.EEXIST] }), c.chdir('/'))
    if (isFailing) b.add(fail)
  }
  t.match(run(add(false)), { status: 'done', outputs: [file] }, 'handed on')
  t.ok(existsSync(join(dir, 'b/made')))
  t.equal(binding.ownedFds(), 1, 'and the other one closed')
  t.notOk(fds().has(onB))
  const again = captured(() => run(add(false)))
  t.match(again, { name: 'TypeError', message: 'may take over only fds that came from one' })
  t.equal(binding.ownedFds(), 1, 'none is taken if one cannot be')
  t.match(
    run((b) => void b.add(fail).input('file', file)),
    { status: 'failed' },
  )
  t.equal(binding.ownedFds(), 0, 'a program that fails closes what it took over')

  const foreign = captured(() => run((b) => void b.input('stdin', 0)))
  t.match(foreign, { name: 'TypeError', message: 'may take over only fds that came from one' })
})

test('an fd cannot be taken over twice, and is closed once', async (t) => {
  const { outputs } = run((b) => b.add(c.openat(b.output(b.slot('/')), cwd, '/', dirFlags)))
  const twice = planOf((b) => {
    for (const name of ['one', 'two']) b.input(name, outputs[0]!)
  })
  t.throws(() => pool.run(twice), { name: 'TypeError' })
  t.equal(binding.closeOwned(outputs[0]!), 0)
  t.equal(binding.closeOwned(outputs[0]!), -errno.EBADF)
  t.equal(binding.closeOwned(0), -errno.EBADF, 'stdin is none of them')
})

test('a slot cannot be given two fds', (t) => {
  const { outputs } = run((b) => {
    for (const name of ['one', 'two']) b.add(c.openat(b.output(b.slot(name)), cwd, '/', dirFlags))
  })
  const b = new PlanBuilder('twice')
  const slot = b.input('one', outputs[0]!)
  const plan = b.build()
  const inputs = outputs.map((fd) => [slot, fd] as const)
  t.throws(() => pool.run(new Plan({ ...plan, inputs })), { name: 'TypeError', message: 'not a program' })
  t.equal(binding.ownedFds(), 2, 'none was taken')
  t.equal(closeOutputs({ outputs }), 2)
})

test('an fd that is disowned is the caller’s', async (t) => {
  const { outputs } = run((b) => b.add(c.openat(b.output(b.slot('/')), cwd, '/', dirFlags)))
  const [fd] = outputs as [number]
  t.equal(binding.disown(fd), true)
  t.equal(binding.disown(fd), false)
  t.equal(binding.closeOwned(fd), -errno.EBADF)
  t.ok(fstatSync(fd).isDirectory())
  closeSync(fd)
})

test('a program may close what it holds, and nothing else', async (t) => {
  const done = run((b) => {
    const slot = b.slot('/')
    b.add(c.openat(slot, cwd, '/', dirFlags), c.close(slot), c.openat(slot, cwd, '/', dirFlags))
  })
  t.match(done, { status: 'done' })
  const closed = run((b) => {
    const slot = b.slot('/')
    b.add(c.openat(slot, cwd, '/', dirFlags), c.close(slot), c.fchdir(slot))
  })
  t.match(closed, { status: 'failed', step: 2, errno: errno.EBADF }, 'a slot that was closed is empty')
  const foreign = { ...c.close({ slot: 0, name: '' }), args: [{ kind: 'fd', fd: held(0, 'stdin') }] } as const
  t.match(
    run((b) => b.add(foreign)),
    { status: 'malformed' },
  )
  const noFd = run((b) => b.add({ ...c.chdir('/'), out: b.slot('no fd') }))
  t.match(noFd, { status: 'malformed' }, 'only calls that make an fd fill a slot')
  const noSlot = run((b) => b.add({ ...c.openat(b.slot('/'), cwd, '/', dirFlags), out: undefined }))
  t.match(noSlot, { status: 'malformed' }, 'and those must')
  t.ok(fstatSync(0))
})

test('wrong arguments are a TypeError', async (t) => {
  const addon = binding as unknown as Record<string, (...args: unknown[]) => unknown>
  const program = encode(planOf((b) => b.add(c.chdir('/'))))
  const refused: [string, unknown[]][] = [
    ['createPool', []],
    ['createPool', ['x', 0, []]],
    ['createPool', ['x', 1025, []]],
    ['createPool', ['x', 1, ['0']]],
    ['submit', [pool.id, 1, 'text']],
    ['runSync', [0xffff, program]],
    ['runSync', ['1', program]],
    ['runSync', [pool.id, new Uint16Array(8)]],
    ['runSync', [pool.id, program.subarray(1)]],
    ['setDispatcher', [null]],
  ]
  for (const [name, args] of refused) t.throws(() => addon[name]?.(...args), TypeError, `${name} ${args}`)
  for (const value of [undefined, '0', {}, -1]) {
    t.equal(addon['closeOwned']?.(value), -errno.EBADF)
    t.equal(addon['disown']?.(value), false)
  }
})
