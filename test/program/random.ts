/**
 * Plans of all shapes that types allow, for property tests. Each fails at its first step, so that the addon
 * checks all of it and makes none of its calls but that one and harmless ones at the end.
 */
import fc from 'fast-check'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { encodeFragment } from '../../lib/program/encode.js'
import { cwd, held, type Plan, PlanBuilder } from '../../lib/program/plan.js'
import {
  type Arg,
  type CallName,
  calls,
  type Expectation,
  type FdArg,
  type Slot,
  type Step,
  statfsField,
  statxField,
  type TextPart,
} from '../../lib/program/step.js'

const slots = 5
const unsigned = (max: number) => fc.integer({ min: 0, max })
const slotOf = unsigned(slots - 1).map((slot): Slot => ({ slot, name: `s${slot}` }))
const fdOf = fc.oneof<fc.Arbitrary<FdArg>[]>(
  slotOf,
  fc.integer({ min: -200, max: 1 << 20 }).map((n) => held(n, 'x')),
)
const bytesOf = fc
  .uint8Array({ min: 1, max: 255, maxLength: 40 })
  .map((bytes) => bytes.map((byte) => byte || 1))
const stringOf = fc.string({ unit: 'grapheme', maxLength: 20 }).map((chars) => chars.replaceAll('\0', '0'))
const textOf: fc.Arbitrary<Arg> = fc
  .oneof(bytesOf, stringOf, fc.array(fc.oneof<fc.Arbitrary<TextPart>[]>(bytesOf, stringOf, fdOf)))
  .map((value) => ({ kind: 'text', text: value }))
const fdArg = fdOf.map((fd): Arg => ({ kind: 'fd', fd }))
const intArg = (value: fc.Arbitrary<number | bigint>) => value.map((value): Arg => ({ kind: 'int', value }))
const any64 = fc.oneof(fc.maxSafeInteger(), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }))
const number = fc.maxSafeNat()
const nullArg = fc.constant<Arg>({ kind: 'null' })
const byLetter: Record<string, fc.Arbitrary<Arg>> = {
  f: fdArg,
  i: intArg(any64),
  v: fc.oneof(fdArg, intArg(fc.integer())),
  p: textOf,
  P: fc.oneof(textOf, nullArg),
  b: fc.uint8Array({ maxLength: 40 }).map((bytes): Arg => ({ kind: 'bytes', bytes })),
  a: fc
    .record({
      set: number,
      clear: number,
      propagation: number,
      userns: fc.option(fdOf, { nil: undefined }),
    })
    .map((attr): Arg => ({ kind: 'mount_attr', attr })),
  h: fc
    .record({ flags: number, mode: number, resolve: number })
    .map((how): Arg => ({ kind: 'open_how', ...how })),
  x: fc.constant<Arg>({ kind: 'out', what: 'statx' }),
  s: fc.constant<Arg>({ kind: 'out', what: 'statfs' }),
}
const makesFd = new Set<CallName>([
  'openat',
  'openat2',
  'fcntl',
  'fsopen',
  'fsmount',
  'fspick',
  'open_tree',
  'open_tree_attr',
  'userns',
])
const fieldsOf = (call: CallName) =>
  call === 'statx' ? Object.values(statxField) : call === 'fstatfs' ? Object.values(statfsField) : []
const registerOf = unsigned(2).map((register) => ({ register, name: `r${register}` }))
const checksOf = (call: CallName) => {
  const fields = fieldsOf(call)
  if (fields.length === 0) return fc.constant({})
  const field = fc.constantFrom(...fields)
  const value = fc.oneof<fc.Arbitrary<Expectation['value']>[]>(fc.bigInt({ min: 0n, max: 9n }), registerOf)
  const expect = fc.record({ field, value, mask: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) })
  return fc.record({
    expect: fc.array(expect, { maxLength: 8 }),
    remember: fc.array(fc.record({ field, register: registerOf }), { maxLength: 8 }),
  })
}
const stepOf: fc.Arbitrary<Step> = fc.constantFrom(...(Object.keys(calls) as CallName[])).chain((call) => {
  const letters = [...calls[call]]
  // the addon closes nothing but what is in a slot
  const kinds = letters.map((letter) =>
    call === 'close' ? slotOf.map((fd): Arg => ({ kind: 'fd', fd })) : byLetter[letter]!,
  )
  return fc
    .record({
      args: fc.tuple(...kinds),
      out: makesFd.has(call) ? slotOf : fc.constant(undefined),
      tolerate: fc.array(unsigned(200), { maxLength: 8 }),
      checks: checksOf(call),
      report: fc.boolean(),
      commits: fc.boolean(),
    })
    .map(({ checks, ...rest }): Step => ({ call, ...rest, ...checks }))
})
const harmless = fc.constantFrom(c.statxPath(cwd, '/', true), c.statxPath(cwd, '/nonexistent', true))

/** The same plan each time, with steps of its own; with `encoded fragments`, every second part was encoded before. */
export type Build = (parts: 'encoded fragments' | 'plain') => Plan

export const randomPlan: fc.Arbitrary<Build> = fc
  .record({
    main: fc.array(stepOf, { maxLength: 12 }),
    undo: fc.array(stepOf, { maxLength: 4 }),
    always: fc.array(harmless, { maxLength: 3 }),
    size: fc.integer({ min: 1, max: 5 }),
    outputs: fc.uniqueArray(slotOf, { selector: ({ slot }) => slot }),
    condition: fc.boolean(),
  })
  .map(({ main, undo, always, size, outputs, condition }) => (parts) => {
    const b = new PlanBuilder('random', slots, 3)
    const stop = c.openat({ slot: 0, name: 's0' }, cwd, '/nonexistent', f.O_PATH)
    b.add(stop).undo(stop, ...undo)
    b.always(...always)
    for (let i = 0; i < main.length; i += size) {
      const fragment = main.slice(i, i + size)
      if (i % 2 && parts === 'encoded fragments') encodeFragment(fragment)
      b.fragment(fragment)
    }
    if (condition) b.add(c.mkdir('/never', 0o700, { ifDone: main[0] ?? stop }))
    for (const slot of outputs) b.output(slot)
    return b.build()
  })
