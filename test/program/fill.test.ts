/**
 * Holes, filled for people: what is printed of a filled step is what is printed of a step that was made without
 * holes; and the addon, which fills them itself, makes the same calls of both.
 */
import fc from 'fast-check'
import t from 'tap'
import * as c from '../../lib/program/calls.js'
import { encode } from '../../lib/program/encode.js'
import { fillPlan, fillStep } from '../../lib/program/fill.js'
import { cwd, held, type Plan, PlanBuilder } from '../../lib/program/plan.js'
import {
  about,
  type Fill,
  type Hole,
  isHole,
  type Step,
  statxField,
  type TextPart,
} from '../../lib/program/step.js'
import { errno, fillBytes, nativePool, planOf } from './programs.js'

/** Where a plan of one shape takes its texts and numbers from: holes, or what fills them. */
interface Source {
  text(i: number): Hole | Uint8Array | string
  number(i: number): Hole | bigint
}
const texts = 3
const numbers = 2
const holes: Source = {
  text: (i) => ({ hole: i, name: `text ${i}` }),
  number: (i) => ({ hole: texts + i, name: `number ${i}` }),
}
const values = (fills: readonly Fill[]): Source => ({
  text: (i) => fills[i] as Uint8Array | string,
  number: (i) => fills[texts + i] as bigint,
})

type Make = (from: Source) => Step
const textIndex = fc.nat(texts - 1)
const numberIndex = fc.nat(numbers - 1)
const partOf: fc.Arbitrary<(from: Source) => TextPart> = fc.oneof(
  textIndex.map((i) => (from: Source) => from.text(i)),
  fc
    .constantFrom<TextPart>('/x', Buffer.from([0xff, 0x2f]), held(7, 'seven'), { slot: 0, name: 's0' })
    .map((part) => () => part),
)
const stepOf: fc.Arbitrary<Make> = fc.oneof(
  textIndex.map((i) => (from: Source) => c.mkdir(from.text(i), 0o700)),
  fc.array(partOf, { maxLength: 4 }).map(
    (parts) => (from: Source) =>
      c.mkdir(
        parts.map((part) => part(from)),
        0o700,
      ),
  ),
  fc.tuple(textIndex, textIndex).map(
    ([i, j]) =>
      (from: Source) =>
        c.userns({ slot: 1, name: 's1' }, from.text(i), from.text(j)),
  ),
  numberIndex.map((i) => (from: Source) => c.dropClaim(from.number(i) as Hole)),
  fc.tuple(textIndex, numberIndex).map(([i, j]) => (from: Source) => {
    const path = from.text(i)
    const expect = [{ field: statxField.ino, value: from.number(j) }]
    const subject = isHole(path) ? about('target', path) : { option: 'target', path }
    return c.statxPath(cwd, path, true, { expect, report: true, subject })
  }),
  fc.constantFrom(c.chdir('/'), c.fchdir(held(7, 'seven'))).map((step) => () => step),
)

const bytes = fc
  .uint8Array({ min: 1, maxLength: 30 })
  .map((list) => Buffer.from(list.map((byte) => byte || 1)))
const chars = fc.string({ unit: 'grapheme', maxLength: 20 }).map((text) => text.replaceAll('\0', '0'))
const fillsOf = fc
  .tuple(
    fc.array(fc.oneof<fc.Arbitrary<Fill>[]>(bytes, chars), { minLength: texts, maxLength: texts }),
    fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { minLength: numbers, maxLength: numbers }),
  )
  .map((both): Fill[] => both.flat())

/** It fails at its first step, so that nothing else of it is done. */
const planWith = (makes: readonly Make[], from: Source): Plan => {
  const b = new PlanBuilder('filled', 2).holes(from === holes ? texts + numbers : 0)
  const stop = c.mkdir('/nonexistent/x', 0o700)
  b.add(stop)
  const steps = makes.map((make) => make(from))
  for (const [i, step] of steps.entries()) b.add(i % 3 ? { ...step, ifDone: stop } : step)
  b.undo(stop, ...steps).always(c.statxPath(cwd, from.text(0), true))
  return b.build()
}

t.test('what is printed, and what the addon takes', async (t) => {
  const pool = nativePool(t)
  const property = fc.property(fc.array(stepOf, { maxLength: 8 }), fillsOf, (makes, fills) => {
    const template = planWith(makes, holes)
    const direct = planWith(makes, values(fills))
    const filled = fillPlan(template, fills)
    t.equal(String(filled), String(direct))
    t.equal(filled.holes, 0)
    t.same(filled.cost, direct.cost)
    t.ok(Buffer.from(encode(filled)).equals(encode(direct)), 'the same words, conditions included')
    const stopped = { status: 'failed', step: 0, errno: errno.ENOENT }
    t.match(pool.run(template, fills), stopped)
  })
  fc.assert(property, { numRuns: 300 })
})

t.test('a program is decoded once, and run with many fills', async (t) => {
  const pool = nativePool(t)
  const plan = planOf((b) => {
    const [dir, name, ino] = ['dir', 'name', 'ino'].map((each) => b.hole(each))
    const expect = [{ field: statxField.ino, value: ino! }]
    b.add(c.statxPath(cwd, [dir!, '/', name!], true, { expect }), c.chdir('/'))
  })
  const { binding } = await import('../../lib/binding.js')
  const program = binding.prepare(encode(plan))
  t.ok(program > 0)
  const property = fc.property(fc.boolean(), fc.nat(4000), fc.boolean(), (isThere, length, isLong) => {
    const dir = isThere ? `/${'.//'.repeat(length / 3)}` : `/nonexistent/${'x'.repeat(length % 200)}`
    const {
      status,
      step,
      errno: error,
    } = pool.runBytes(program, fillBytes([isLong ? Buffer.from(dir) : dir, 'proc', 1n]))
    const expected = isThere ? ['done', 0xffff_ffff, 0] : ['failed', 0, errno.ENOENT]
    t.same([status, step, error], expected)
  })
  fc.assert(property, { numRuns: 200 })
  binding.dropProgram(program)
  t.throws(() => pool.runBytes(program, fillBytes(['/', 'x', 0n])), TypeError, 'it is forgotten')
})

t.test('what has no holes is answered itself', async (t) => {
  const step = c.mkdir(['/a', held(7, 'x')], 0o700, { subject: { option: 'target', path: '/a' } })
  t.equal(fillStep(step, ['/b']), step)
  const plan = planOf((b) => b.add(step))
  t.equal(fillPlan(plan, []), plan)
})

t.test('an unfilled hole is printed by its name', async (t) => {
  const plan = planOf((b) => {
    const [path, id] = [b.hole('target'), b.hole('mount id')]
    b.add(c.mkdir(['/x/', path], 0o700), c.mkdir(path, 0o700), c.dropClaim(id))
    b.add(c.statxPath(cwd, path, true, { expect: [{ field: statxField.mountId, value: id }] }))
  })
  const lines = String(plan).split('\n').slice(1)
  t.match(lines, [
    '  mkdirat(AT_FDCWD, "/x/{target}", 0700)',
    '  mkdirat(AT_FDCWD, "{target}", 0700)',
    '  drop_claim({mount id})',
    /expect stx_mnt_id=.*mount id/,
  ])
})
