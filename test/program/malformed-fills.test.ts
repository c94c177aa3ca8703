/**
 * Bytes that do not fill the holes of a program, programs that are kept, and runs that are sent together: as in
 * malformed.test.ts, nothing is read outside of them, nothing crashes, and nothing is left.
 */
import fc from 'fast-check'
import t from 'tap'
import { binding } from '../../lib/binding.js'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { encode } from '../../lib/program/encode.js'
import { cwd } from '../../lib/program/plan.js'
import { type Fill, type Step, statxField } from '../../lib/program/step.js'
import { fds } from '../support/counts.js'
import { fillBytes, planOf } from './programs.js'
import {
  attempt,
  fills,
  giveBack,
  nothing,
  numbers,
  outcomeOf,
  ownedFd,
  pool,
  same,
  valid,
} from './spoilt.js'

const atFirst = fds()

t.test('what does not fill the holes', async (t) => {
  const sizes = [0, 1, 3, 5].map((count) => [...fills, 'more'].slice(0, count))
  for (const list of sizes) t.equal(outcomeOf(same, fillBytes(list)), 'malformed', `${list.length} of 4`)
  const whole = fillBytes(fills)
  for (let size = 0; size < whole.length; size += 4) {
    t.equal(outcomeOf(same, whole.subarray(0, size)), 'malformed', `${size} bytes of ${whole.length}`)
  }
  t.equal(outcomeOf(same, whole.subarray(0, whole.length - 1)), 'malformed', 'part of a word is none')
  t.equal(outcomeOf(same, Buffer.concat([whole, Buffer.alloc(4)])), 'malformed')
  const kinds: [string, Fill[], string][] = [
    ['a number for a path', [0x2fn, ...fills.slice(1)], 'failed'],
    ['a number without NULs for a path', [0x6666_6666_6666_6666n, ...fills.slice(1)], 'failed'],
    ['a NUL in a path', ['/proc\0/self', ...fills.slice(1)], 'failed'],
    ['a NUL at the end of a path', ['/proc/self\0', ...fills.slice(1)], 'failed'],
    ['nothing for a path', ['', ...fills.slice(1)], 'failed'],
    ['a NUL in a piece', [fills[0]!, 'fd\0/', ...fills.slice(2)], 'failed'],
    ['a number for a piece', [fills[0]!, 5n, ...fills.slice(2)], 'failed'],
    ['a text for a number', ['/proc/self', 'fd/', 0x4000n, '4096'], 'failed'],
    [
      'any eight bytes are a number',
      ['/proc/self', 'fd/', 0x4000n, Buffer.of(0, 0x10, 0, 0, 0, 0, 0, 0)],
      'done',
    ],
    ['a text for what is expected', ['/proc/self', 'fd/', '16384', BigInt(f.AT_EMPTY_PATH)], 'failed'],
    ['another number', ['/proc/self', 'fd/', 0x8000n, BigInt(f.AT_EMPTY_PATH)], 'unexpected'],
    ['nothing for a piece', ['/proc/self', '', 0x4000n, BigInt(f.AT_EMPTY_PATH)], 'done'],
  ]
  for (const [name, list, outcome] of kinds) t.equal(outcomeOf(same, fillBytes(list)), outcome, name)
  t.equal(outcomeOf(same, new Uint8Array(0)), 'malformed')
})

t.test('other words in what fills the holes', async (t) => {
  const whole = fillBytes(fills)
  const seen = new Set<string>()
  for (const word of [0, 1, 7, 8, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff]) {
    for (let at = 0; at < whole.length; at += 4) {
      const spoilt = Buffer.from(whole)
      spoilt.writeUInt32LE(word, at)
      seen.add(outcomeOf(same, spoilt))
    }
  }
  t.same([...seen].sort(), ['done', 'failed', 'malformed', 'unexpected'])
  const random = fc.property(
    fc.uint8Array({ maxLength: 100 }),
    (bytes) => outcomeOf(same, bytes) === 'malformed',
  )
  fc.assert(random, { numRuns: 300 })
})

t.test('holes that are none', async (t) => {
  const cases: [string, Step][] = [
    ['a path', { call: 'chdir', args: [{ kind: 'text', text: { hole: 4, name: 'x' } }] }],
    ['a piece', { call: 'chdir', args: [{ kind: 'text', text: ['/', { hole: 4, name: 'x' }] }] }],
    ['a number', c.dropClaim({ hole: 4, name: 'x' })],
    [
      'an expectation',
      c.statxPath(cwd, '/', true, { expect: [{ field: statxField.ino, value: { hole: 4, name: 'x' } }] }),
    ],
    ['far away', c.dropClaim({ hole: 0xffff_ffff, name: 'x' })],
  ]
  for (const [name, step] of cases) {
    t.equal(
      pool.run(
        planOf((b) => b.holes(4).add(step)),
        fills,
      ).status,
      'malformed',
      name,
    )
    t.equal(binding.prepare(encode(planOf((b) => b.holes(4).add(step)))), 0, `${name}, prepared`)
    t.not(
      pool.run(
        planOf((b) => b.holes(5).add(step)),
        [...fills, 1n],
      ).status,
      name === 'far away' ? '' : 'malformed',
    )
  }
  t.throws(
    () =>
      pool.run(
        planOf((b) => b.holes(17)),
        [],
      ),
    TypeError,
    'more than there can be',
  )
  const sixteen = Array.from({ length: 16 }, () => 'x')
  t.equal(
    pool.run(
      planOf((b) => b.holes(16)),
      sixteen,
    ).status,
    'done',
  )
})

t.test('programs that are prepared', async (t) => {
  /** It claims a directory, settles nothing, and looks around by what it is given. */
  const bytes = encode(
    planOf((b) => {
      const [path, number] = [b.hole('path'), b.hole('number')]
      const dir = b.slot('dir')
      b.add(c.openat(dir, cwd, path, f.O_PATH | f.O_DIRECTORY), c.claim(dir), c.retireClaim(number))
      b.add(c.statxFd(dir, true, { report: true, answers: true }), c.chdir('/'))
      b.always(c.dropClaim(number), c.close(dir))
    }),
  )
  const filling = fillBytes(['/proc/self', 2n ** 60n])
  const prepared = (program: Uint8Array): string => {
    const before = numbers()
    let id: number
    try {
      id = binding.prepare(program)
    } catch (error) {
      if (error instanceof TypeError) return 'refused'
      throw error
    }
    if (id === 0) return 'malformed'
    const result = attempt(id, filling)
    binding.dropProgram(id)
    if (result) giveBack(result)
    pool.runBytes(nothing)
    if (binding.claims() !== 0 || binding.ownedFds() !== 0) throw new Error('something is left')
    if (numbers() !== before) throw new Error(`fds were ${before}, are ${numbers()}`)
    return result?.status ?? 'not run'
  }
  t.equal(prepared(bytes), 'done')
  const seen = new Set<string>()
  for (const word of [0, 1, 2, 8, 24, 26, 0xffff, 0x8000_0000, 0xffff_ffff]) {
    for (let at = 0; at < bytes.length; at += 4) {
      const spoilt = Buffer.from(bytes)
      spoilt.writeUInt32LE(word, at)
      seen.add(prepared(spoilt))
    }
  }
  t.same([...seen].sort(), ['done', 'failed', 'malformed', 'refused'])
  for (let size = 0; size < bytes.length; size++) t.not(prepared(bytes.subarray(0, size)), 'done')

  const input = ownedFd()
  t.throws(() => binding.prepare(valid(input)), TypeError, 'inputs are given to one run')
  t.equal(binding.closeOwned(input), 0, 'and is not taken')
  t.throws(() => pool.runBytes(0xffff, filling), TypeError, 'no such program')
  const withInput = planOf((b) => void b.add(c.claim(b.input('proc', ownedFd()))))
  t.equal(pool.run(withInput).status, 'malformed', 'what may have to be run again uses no input up')
  const addon = binding as unknown as Record<string, (...args: unknown[]) => unknown>
  binding.setDispatcher(() => t.fail('nothing was started'))
  const id = binding.prepare(bytes)
  const refused: [string, unknown[]][] = [
    ['prepare', []],
    ['prepare', ['x']],
    ['prepare', [bytes.subarray(1)]],
    ['runSync', [pool.id, id, 'x', 1]],
    ['runSync', [pool.id, id, filling, filling.length / 4 + 1]],
    ['runSync', [pool.id, id, filling, 0xffff_ffff]],
    ['runSync', [pool.id, id, new Uint32Array(8), 1]],
    ['submit', [pool.id, 1, id, filling, 0xffff_ffff]],
    ['submit', [pool.id, 1, id + 1, filling, 1]],
    ['drain', [0xffff, 1]],
    ['poolCounts', [0xffff]],
  ]
  for (const [name, args] of refused) t.throws(() => addon[name]?.(...args), TypeError, `${name} ${args}`)
  binding.dropProgram(id)
  for (const value of [undefined, 'x', -1, id, 0xffff_ffff])
    t.doesNotThrow(() => addon['dropProgram']?.(value))
})

t.test('runs that are cut off', async (t) => {
  const id = binding.prepare(encode(planOf((b) => b.add(c.dropClaim(b.hole('x'))))))
  let ran = 0
  binding.setDispatcher(() => ran++)
  const submitAll = (words: number[], count = words.length) =>
    binding.submitAll(pool.id, new Uint8Array(new Uint32Array(words).buffer), count)
  const run = [1, id, 4, 8, 7, 0, 0]
  const refused: [string, number[], number?][] = [
    ['a head', [1, id]],
    ['its fills', run.slice(0, 6)],
    ['a second one', [...run, 2, id, 5, 8, 7, 0, 0]],
    ['no such program', [...run, 2, id + 1, 0]],
    ['a size without end', [1, id, 0xffff_ffff, 8]],
    ['more words than there are', run, 8],
    ['many more', run, 0xffff_ffff],
  ]
  for (const [name, words, count] of refused) t.throws(() => submitAll(words, count), TypeError, name)
  t.doesNotThrow(() => submitAll([]))
  const random = fc.property(fc.uint32Array({ maxLength: 20 }), (list) => {
    // no program of this number was ever kept
    const words = [...list].map((word, i) => (i === 1 ? 0xffff_0000 : word))
    if (words.length > 0) t.throws(() => submitAll(words), TypeError)
  })
  fc.assert(random, { numRuns: 200 })
  pool.runBytes(nothing)
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(ran, 0, 'where one of them is refused, none is started')
  binding.dropProgram(id)
})

t.test('each fd is what it was', async (t) => {
  t.same(fds(), atFirst)
})
