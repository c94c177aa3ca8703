import fc from 'fast-check'
import t from 'tap'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { encode, encodeFragment } from '../../lib/program/encode.js'
import { cwd, held, type PlanBuilder } from '../../lib/program/plan.js'
import { type CallName, calls, type Slot, type Step, statxField } from '../../lib/program/step.js'
import { errno, fillBytes, nativePool, planOf } from './programs.js'
import { randomPlan } from './random.js'

const words = (program: Uint8Array): number[] => [...new Uint32Array(program.slice().buffer)]
const text = (chars: string): number => Buffer.from(chars.padEnd(4, '\0')).readUInt32LE()
const NONE = 0xffff
/** Of a plan without inputs and outputs that is called test. */
const header = 8 + 3

t.test('the words of a program', async (t) => {
  const plan = planOf((b) => {
    b.input('in', 5)
    const dir = b.output(b.slot('dir'))
    const register = b.register('ino')
    const open = c.openat(dir, cwd, 'abc', f.O_PATH, { tolerate: [errno.ENOENT] })
    b.add(open)
    b.add(
      c.statxFd(dir, false, {
        report: true,
        commits: true,
        ifDone: open,
        expect: [
          { field: statxField.mode, mask: 0o7777n, value: 0o755n },
          { field: statxField.ino, value: register },
        ],
        remember: [{ field: statxField.dev, register }],
      }),
    )
    b.undo(open, { call: 'chdir', args: [{ kind: 'text', text: ['/x/', dir, Buffer.from('abcd')] }] })
    b.always(c.setFd(dir, 'k', held(-1, '')), c.create(dir))
  })
  const minusOne = [0xffff_ffff, 0xffff_ffff]
  const fd = (number: number) => [1, number >>> 0]
  const slot = (number: number) => [2, number]
  const int = (number: number) => [1, number, 0]
  const oneWord = (chars: string) => [3, chars.length, text(chars)]
  const unchecked = [0, 0, 0]
  const mask =
    f.STATX_INO | f.STATX_TYPE | f.STATX_MODE | f.STATX_NLINK | f.STATX_UID | f.STATX_GID | f.STATX_MNT_ID
  const name = Object.keys(calls)
  const numberOf = (call: CallName) => name.indexOf(call)
  t.same(
    words(encode(plan)),
    [
      [text('OFVD'), 2, 2, 1, 0, 5], // slots, registers, holes, steps
      [1, 0, 5], // inputs: slot, fd
      [1, 1], // outputs: slot
      [4, text('test'), 0], // title
      [0, 1 | (NONE << 16), 1, 2, 0, 0, fd(-100), oneWord('abc'), int(f.O_PATH | f.O_CLOEXEC), int(0)],
      [numberOf('statx') | (3 << 16), NONE | (0 << 16), 0],
      [2, 28 | (2 << 16), 0o7777, 0, 0o755, 0, 32 | (8 << 16) | (1 << 24), minusOne, 0, 0],
      [1, 136 | (8 << 16) | (1 << 24), minusOne, 0, 0],
      [slot(1), 3, 0, 0, int(f.AT_EMPTY_PATH), int(mask), 7],
      [numberOf('chdir') | (1 << 8), NONE | (0 << 16), unchecked],
      [4, 3, oneWord('/x/'), slot(1), 3, 4, text('abcd'), 0],
      [numberOf('fsconfig') | (2 << 8), NONE | (NONE << 16), unchecked],
      [slot(1), int(f.FSCONFIG_SET_FD), oneWord('k'), 0, fd(-1)],
      [numberOf('fsconfig') | (2 << 8), NONE | (NONE << 16), unchecked],
      [slot(1), int(f.FSCONFIG_CMD_CREATE), 0, 0, 1, 0],
    ]
      .flat(3)
      .map((word) => word >>> 0),
  )
})

t.test('the words of holes, and of what fills them', async (t) => {
  const plan = planOf((b) => {
    const [path, name, id, owner] = ['path', 'name', 'id', 'owner'].map((each) => b.hole(each))
    b.add({ call: 'chdir', args: [{ kind: 'text', text: path! }] })
    b.add({ call: 'chdir', args: [{ kind: 'text', text: ['/x', name!] }] })
    const expect = [{ field: statxField.mountId, value: id! }]
    b.add(c.statxPath(cwd, '/', true, { expect, identifies: true, answers: true }))
    b.add(c.dropClaim(owner!))
  })
  const program = words(encode(plan))
  t.equal(program[4], 4, 'their number')
  const numberOf = (call: CallName) => Object.keys(calls).indexOf(call)
  const step = (call: CallName, flags = 0) => [numberOf(call) | (flags << 16), ((NONE << 16) | NONE) >>> 0, 0]
  t.same(program.slice(header, header + 7), [...step('chdir'), 0, 0, 8, 0])
  t.same(program.slice(header + 7, header + 18), [...step('chdir'), 0, 0, 4, 2, 3, 2, text('/x'), 8])
  t.equal(program[header + 18], 1)
  t.same(
    program.slice(header + 19, header + 19 + 3 + 6),
    [...step('statx', 4 | 8), 1, 144 | (8 << 16) | (2 << 24), 0xffff_ffff, 0xffff_ffff, 2, 0],
    'an expectation that is a hole; it identifies the mount, and answers',
  )
  t.same(program.slice(-7), [...step('drop_claim'), 0, 0, 8, 3])

  t.same(
    words(fillBytes(['/ä', Buffer.from([0xff, 1, 2, 3]), 2n ** 33n + 5n, 'abc'])),
    [
      [3, text('/ä')],
      [4, 0x0302_01ff, 0],
      [8, 5, 2, 0],
      [3, text('abc')],
    ].flat(),
    'a size, the bytes, a NUL at least, and whole words',
  )
  t.same(words(fillBytes([])), [])
  const long = fillBytes(['x'.repeat(100_000), Buffer.alloc(100_000, 'y')])
  t.ok(Buffer.from(long).includes('y'.repeat(100_000)), 'the memory grows with them')
})

t.test('64-bit values, as numbers and as bigints', async (t) => {
  const values: [number | bigint, bigint][] = [
    [0, 0n],
    [0xffff_ffff, 0xffff_ffffn],
    [2 ** 32, 2n ** 32n],
    [Number.MAX_SAFE_INTEGER, 2n ** 53n - 1n],
    [-1, 2n ** 64n - 1n],
    [-(2 ** 33) - 1, 2n ** 64n - 2n ** 33n - 1n],
    [2n ** 64n - 1n, 2n ** 64n - 1n],
    [-(2n ** 63n), 2n ** 63n],
    [2 ** 60, 2n ** 60n],
  ]
  for (const [value, expected] of values) {
    const step: Step = {
      call: 'restore_fsids',
      args: [
        { kind: 'int', value: 0 },
        { kind: 'int', value },
      ],
    }
    const [low, high] = words(encode(planOf((b) => b.add(step)))).slice(-2) as [number, number]
    t.equal(BigInt(low) | (BigInt(high) << 32n), expected, String(value))
  }
})

/** The same steps, in a fragment that was encoded before, or in none. */
const twoWays = (steps: readonly Step[], build: (b: PlanBuilder, add: () => void) => void) => {
  const fragment = [...steps]
  encodeFragment(fragment)
  const cached = planOf((b) => build(b, () => b.fragment(fragment)), 4)
  const fresh = planOf((b) => build(b, () => b.fragment([...steps])), 4)
  return { cached, fresh }
}

t.test('an encoded fragment is the same as its steps', async (t) => {
  const fs: Slot = { slot: 0, name: 'fs' }
  const shared = [c.setString(fs, 'lowerdir+', 'a'), c.mkdir('/x', 0o700), c.setFd(fs, 'k', cwd)]
  const before = c.mkdir('/before', 0o755)
  const after = c.mkdir('/after', 0o755)
  const cases: Record<string, (b: PlanBuilder, add: () => void) => void> = {
    alone: (_, add) => add(),
    twice: (_, add) => [add(), add()],
    'between conditions': (b, add) => {
      b.add(before)
      add()
      b.add(after, c.chmod('/before', 0, { ifDone: before }), c.chmod('/after', 0, { ifDone: after }))
      b.undo(before, c.rmdir(cwd, '/before'))
      b.always(c.chdir('/'))
    },
    'with a step that others depend on': (b, add) => {
      b.add(before)
      add()
      b.undo(shared[1]!, c.rmdir(cwd, '/x'))
    },
  }
  for (const [name, build] of Object.entries(cases)) {
    const { cached, fresh } = twoWays(shared, build)
    t.same(words(encode(cached)), words(encode(fresh)), name)
    t.same(words(encode(cached)), words(encode(cached)), `${name}, again`)
  }
})

t.test('conditions are indices in the whole program', async (t) => {
  // each step is eight words, of which the second holds what it depends on
  const step = () => c.chdir('/')
  const [a, b, shared] = [step(), step(), step()]
  const fragment = [step(), shared]
  encodeFragment(fragment)
  const plan = planOf((builder) => {
    builder.add(a).fragment(fragment)
    builder.add(b, { ...step(), ifDone: b }, { ...step(), ifDone: a })
    builder.undo(a, step()).undo(shared, step()).undo(b, step())
  })
  const steps = words(encode(plan)).slice(header)
  const conditions = plan.steps.map((_, i) => steps[8 * i + 1]! >>> 16)
  t.same(conditions, [NONE, NONE, NONE, NONE, 3, 0, 3, 2, 0])
})

t.test('what cannot be encoded is refused, not changed', async (t) => {
  const fs: Slot = { slot: 0, name: 'fs' }
  const elsewhere = c.chdir('/')
  const refused: [string, () => unknown, RegExp][] = [
    [
      'too few arguments',
      () => encode(planOf((b) => b.add({ call: 'fchdir', args: [] }))),
      /fchdir: 0 arguments/,
    ],
    [
      'a condition outside of the plan',
      () => encode(planOf((b) => b.undo(elsewhere, c.chdir('/')))),
      /chdir depends on a step that is not in the plan/,
    ],
    [
      'a condition inside of a fragment',
      () => encodeFragment([elsewhere, c.setFlag(fs, 'x', { ifDone: elsewhere })]),
      /fsconfig: a step of a shared fragment depends on no other/,
    ],
  ]
  for (const fd of [undefined, Number.NaN, 0.5]) {
    const hole = planOf((b) => b.add(c.fchdir(held(fd as number, 'hole'))))
    refused.push([`an fd that is ${fd}`, () => encode(hole), /no fd for hole/])
  }
  for (const [name, call, message] of refused) t.throws(call, { message }, name)
  t.equal(words(encode(planOf((b) => b.add(elsewhere)))).length, header + 5 + 3, 'and leaves nothing behind')
})

t.test('large programs', async (t) => {
  const pool = nativePool(t)
  const long = 'x'.repeat(300_000)
  const stop = c.chdir('/nonexistent')
  const plan = planOf((b) => {
    b.add(stop, ...Array.from({ length: 3000 }, (_, i) => c.mkdir(`/${i}/${'y'.repeat(i % 9)}`, 0o700)))
    b.add(c.mkdir(long, 0o700), c.mkdir('/end', 0o700))
  })
  t.match(pool.run(plan), { status: 'failed', step: 0 })
  const bytes = Buffer.from(encode(plan))
  t.ok(bytes.includes(long))
  t.equal(bytes.indexOf('/end'), bytes.length - 4 * 5)
})

t.test('every plan is a program that the addon takes', async (t) => {
  const pool = nativePool(t)
  const property = fc.property(randomPlan, (build) => {
    const program = encode(build('encoded fragments'))
    t.ok(Buffer.from(program).equals(encode(build('plain'))), 'the same with encoded fragments')
    const { status, step, errno: error } = pool.runBytes(program)
    t.same({ status, step, error }, { status: 'failed', step: 0, error: errno.ENOENT })
  })
  fc.assert(property, { numRuns: 300 })
})
