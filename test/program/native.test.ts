/** What native/run.cc does with the steps of a program: order, conditions, expectations, texts. */
import { fstatSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { cwd, held, type PlanBuilder } from '../../lib/program/plan.js'
import { identityOf } from '../../lib/program/result.js'
import { type Expectation, statfsField, statxField } from '../../lib/program/step.js'
import { closeOutputs, errno, fdTests, nativePool, planOf } from './programs.js'

const test = fdTests(t)
const dirFlags = f.O_PATH | f.O_DIRECTORY
const fail = c.chdir('/nonexistent')
const pool = nativePool(t)
const run = (add: (b: PlanBuilder) => void) => pool.run(planOf(add))

test('the first failing step ends a program', async (t) => {
  const dir = t.testdir({})
  const result = run((b) => {
    b.add(c.openat(b.slot('a'), cwd, dir, dirFlags), c.mkdir(join(dir, 'before'), 0o700))
    b.add(c.mkdir(join(dir, 'no/where'), 0o700), c.mkdir(join(dir, 'after'), 0o700))
  })
  t.match(result, { status: 'failed', step: 2, errno: errno.ENOENT, outputs: [], log: [] })
  t.equal(result.hasReports, false)
  t.same(readdirSync(dir), ['before'])
  t.match(
    run(() => {}),
    { status: 'done', outputs: [], log: [] },
    'nothing to do is done',
  )
})

test('undo steps run after a failure, each if its step did its work, the last first', async (t) => {
  const dir = t.testdir({ old: {} })
  const at = (name: string) => join(dir, name)
  const add = (b: PlanBuilder) => {
    for (const name of ['old', 'new', 'new/inner']) {
      const made = c.mkdir(at(name), 0o700, { tolerate: [errno.EEXIST] })
      b.add(made).undo(made, c.rmdir(cwd, at(name)))
    }
    const late = c.mkdir(at('late'), 0o700)
    b.add(c.chdir('/'))
    return () => b.add(late).undo(late, c.rmdir(cwd, at('old')))
  }
  const failed = run((b) => {
    const addLate = add(b)
    b.add(fail)
    addLate()
  })
  t.match(failed, { status: 'failed', step: 4, errno: errno.ENOENT }, 'what is undone does not change it')
  t.same(readdirSync(dir), ['old'], 'what was there before stays')
  t.match(
    run((b) => void add(b)),
    { status: 'done' },
  )
  t.same(readdirSync(dir, { recursive: true }).sort(), ['new', 'new/inner', 'old'], 'nothing after a success')
})

test('always steps run at the end, after undo steps, and whatever they answer', async (t) => {
  const dir = t.testdir({})
  const at = (name: string) => join(dir, name)
  for (const isFailing of [false, true]) {
    const result = run((b) => {
      const made = c.mkdir(at('x'), 0o700)
      const empty = b.slot('empty')
      b.always(c.mkdir(at('last'), 0o700), c.rmdir(cwd, at('gone')), c.rmdir(cwd, at('x')))
      b.always(c.mkdir(at('first'), 0o700), c.mkdir(at('first'), 0o700))
      b.always(c.mkdir([at('of-'), empty], 0o700), c.fchdir(empty), c.close(empty))
      b.add(made).undo(made, c.mkdir(at('x/inner'), 0o700), c.rmdir(cwd, at('x/inner')))
      if (isFailing) b.add(fail)
    })
    t.match(result, isFailing ? { status: 'failed', step: 1 } : { status: 'done', step: 0xffff_ffff })
    t.same(readdirSync(dir), ['first', 'last'], 'steps whose slot is empty are passed over')
    run((b) => b.add(c.rmdir(cwd, at('first')), c.rmdir(cwd, at('last'))))
  }
})

test('steps that depend on others', async (t) => {
  const dir = t.testdir({ old: {} })
  const at = (name: string) => join(dir, name)
  const tolerate = [errno.EEXIST]
  const result = run((b) => {
    const old = c.mkdir(at('old'), 0o700, { tolerate })
    const made = c.mkdir(at('new'), 0o700, { tolerate })
    const skipped = c.mkdir(at('if-old'), 0o700, { ifDone: old })
    b.add(old, made, skipped, c.mkdir(at('if-new'), 0o700, { ifDone: made }))
    b.add(c.mkdir(at('if-skipped'), 0o700, { ifDone: skipped }))
  })
  t.match(result, { status: 'done' })
  t.same(readdirSync(dir), ['if-new', 'new', 'old'])
})

test('tolerated errnos', async (t) => {
  const tolerating = (...tolerate: number[]) =>
    run((b) => {
      const missing = b.output(b.slot('missing'))
      const there = b.output(b.slot('there'))
      b.add(
        c.openat(missing, cwd, '/nonexistent', f.O_PATH, { tolerate }),
        c.openat(there, cwd, '/', f.O_PATH),
      )
    })
  t.match(tolerating(), { status: 'failed', step: 0, outputs: [] })
  t.match(tolerating(errno.EEXIST, errno.ENOTDIR), { status: 'failed', step: 0, errno: errno.ENOENT })
  const result = tolerating(errno.EEXIST, errno.ENOENT)
  t.match(result, { status: 'done', errno: 0 })
  t.equal(result.outputs[0], -1, 'an output whose slot is empty')
  t.equal(closeOutputs(result), 1)
})

test('expectations', async (t) => {
  const dir = t.testdir({})
  const { ino, mode } = statSync(dir, { bigint: true })
  const { ino: inoField, mode: modeField, uid } = statxField
  const cases: [string, Expectation[], boolean][] = [
    ['8 bytes', [{ field: inoField, value: ino }], true],
    ['8 bytes, another', [{ field: inoField, value: ino + 1n }], false],
    ['2 bytes', [{ field: modeField, value: mode }], true],
    ['2 bytes, another', [{ field: modeField, value: mode ^ 1n }], false],
    ['2 bytes, masked', [{ field: modeField, mask: 0xf000n, value: 0x4000n }], true],
    ['2 bytes, wrongly masked', [{ field: modeField, mask: 0x4000n, value: 0xf000n }], false],
    ['4 bytes', [{ field: uid, value: BigInt(process.getuid?.() ?? 0) }], true],
    ['all of several', [{ field: inoField, value: ino }, { field: modeField, value: 0n }], false], // biome-ignore format: a table
  ]
  for (const [name, expect, isMet] of cases) {
    for (const report of [false, true]) {
      const result = run((b) => {
        b.add(c.statxPath(cwd, dir, true, { expect, report }), c.chdir('/'))
      })
      if (isMet) t.match(result, { status: 'done', errno: 0 }, name)
      else t.match(result, { status: 'unexpected', step: 0, errno: errno.ESTALE }, name)
      const found = result.report(0)
      t.equal(found !== undefined, report || !isMet, `${name}: what was found`)
      t.equal(result.hasReports, found !== undefined)
      t.equal(result.report(1), undefined)
      if (found) t.equal(identityOf(found).ino, ino)
    }
  }
  const stopped = run((b) => {
    const made = c.mkdir(join(dir, 'x'), 0o700)
    const expect = [{ field: statfsField.type, value: 0n }]
    b.add(made, c.openat(b.slot('dir'), cwd, dir, dirFlags)).undo(made, c.rmdir(cwd, join(dir, 'x')))
    b.add(c.fstatfs({ slot: 0, name: 'dir' }, { expect }), c.mkdir(join(dir, 'y'), 0o700))
  })
  t.match(stopped, { status: 'unexpected', step: 2 })
  t.equal(stopped.report(2)?.length, 120, 'struct statfs')
  t.same(readdirSync(dir), [], 'it is a failure like others: undone, and nothing after it')
})

test('what depends on a step is not done if that one met something else', async (t) => {
  const dir = t.testdir({})
  const expect = [{ field: statxField.ino, value: 0n }]
  const stopped = run((b) => {
    const met = c.statxPath(cwd, '/', true, { expect })
    b.add(met).undo(met, c.mkdir(join(dir, 'undone'), 0o700))
    const surprised = { ...met, when: 'always' } as const
    b.always(surprised, c.mkdir(join(dir, 'always'), 0o700, { ifDone: surprised }))
  })
  t.match(stopped, { status: 'unexpected', step: 0 })
  t.same(readdirSync(dir), [])
})

test('expectations of steps at the end change nothing', (t) => {
  const expect = [{ field: statxField.ino, value: 0n }]
  const surprised = c.statxPath(cwd, '/', true, { expect })
  const done = run((b) => b.always(surprised))
  t.match(done, { status: 'done', errno: 0, step: 0xffff_ffff })
  const failed = run((b) => {
    const first = c.chdir('/')
    b.add(first, fail).undo(first, surprised).always(surprised)
  })
  t.match(failed, { status: 'failed', errno: errno.ENOENT, step: 1 })
})

test('registers', async (t) => {
  const dir = t.testdir({ a: {}, b: {} })
  const compare = (first: string, second: string) =>
    run((b) => {
      const ino = b.register('ino')
      const dev = b.register('dev')
      const remember = [
        { field: statxField.dev, register: dev },
        { field: statxField.ino, register: ino },
      ]
      const expect = [
        { field: statxField.ino, value: ino },
        { field: statxField.dev, value: dev },
      ]
      b.add(c.statxPath(cwd, join(dir, first), true, { remember }))
      b.add(c.statxPath(cwd, join(dir, second), true, { expect }))
    })
  t.match(compare('a', 'a'), { status: 'done' })
  t.match(compare('a', 'b'), { status: 'unexpected', step: 1 })
  const unset = (value: bigint) =>
    run((b) =>
      b.add(
        c.statxPath(cwd, dir, true, {
          expect: [{ field: statxField.nlink, mask: value, value: b.register('unset') }],
        }),
      ),
    )
  t.match(unset(0n), { status: 'done' }, 'a register holds 0 at first')
  t.match(unset(0xffffn), { status: 'unexpected' })
})

test('texts in pieces', async (t) => {
  const dir = t.testdir({ sub: {} })
  const odd = Buffer.from([0xff, 0x0a, 0x2c])
  const sub = held(fstatSync(0) && 0, 'stdin')
  const result = run((b) => {
    const slot = b.slot('dir')
    b.add(c.openat(slot, cwd, dir, dirFlags))
    b.add(c.mkdir(['/proc/self/fd/', slot, '/sub/', Buffer.from('n-'), sub, odd], 0o700))
    b.add(c.mkdir([dir, '/', '', 'plain'], 0o700), c.mkdir([join(dir, 'of-'), b.slot('empty')], 0o700))
    b.add(c.mkdir([], 0o700))
  })
  t.match(result, { status: 'failed', step: 4, errno: errno.ENOENT }, 'no piece is an empty string')
  t.same(readdirSync(dir), ['of--1', 'plain', 'sub'])
  const [made] = readdirSync(join(dir, 'sub'), { encoding: 'buffer' })
  t.same(made, Buffer.concat([Buffer.from('n-0'), odd]))
})
