/**
 * Bytes that are no program, or another one than was meant: nothing is read outside of them, nothing crashes, and no
 * fd but those of the program is touched.
 */
import fc from 'fast-check'
import t from 'tap'
import { fds } from '../support/counts.js'
import { fills, outcomeOf, valid } from './spoilt.js'

const atFirst = fds()

t.test('the program is one', async (t) => {
  t.equal(
    outcomeOf((program) => program),
    'done',
  )
})

t.test('every truncation', async (t) => {
  const { length } = valid(0)
  const outcomes = Array.from({ length }, (_, size) => outcomeOf((program) => program.subarray(0, size)))
  const header = 4 * (6 + 3 + 3 + 3)
  const expected = outcomes.map((_, size) => (size % 4 === 0 && size >= header ? 'malformed' : 'refused'))
  t.same(outcomes, expected)
})

t.test('something after the end', async (t) => {
  for (const size of [4, 8, 4096]) {
    t.equal(
      outcomeOf((program) => Buffer.concat([program, Buffer.alloc(size)])),
      'malformed',
    )
  }
})

t.test('a text that does not end where it says', async (t) => {
  const at = (program: Uint8Array) => Buffer.from(program.buffer).indexOf('/proc/self\0') - 4
  const lengths = [9, 11, 12, 0x7fff_ffff, 0xffff_fff0, 0xffff_ffff]
  for (const wrong of lengths) {
    const outcome = outcomeOf((program) => {
      const view = new DataView(program.buffer, program.byteOffset)
      t.equal(view.getUint32(at(program), true), '/proc/self'.length)
      view.setUint32(at(program), wrong, true)
      return program
    })
    t.equal(outcome, 'malformed', `${wrong} bytes`)
  }
})

const { length } = valid(0)

t.test('other words', async (t) => {
  const seen = new Set<string>()
  for (const word of [0, 1, 2, 7, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) {
    for (let at = 0; at < length; at += 4) {
      seen.add(
        outcomeOf((program) => {
          new DataView(program.buffer, program.byteOffset).setUint32(at, word, true)
          return program
        }),
      )
    }
  }
  t.same([...seen].sort(), ['done', 'failed', 'malformed', 'refused', 'unexpected'])
})

t.test('other bytes', async (t) => {
  const flips = fc.array(fc.record({ at: fc.nat(length - 1), by: fc.integer({ min: 1, max: 255 }) }), {
    minLength: 1,
    // fewer than would make another path of /proc/self
    maxLength: 3,
  })
  const flipping = fc.property(flips, (list) => {
    outcomeOf((program) => {
      for (const { at, by } of list) program[at] = program[at]! ^ by
      return program
    })
  })
  fc.assert(flipping, { numRuns: 1500 })
  t.equal(
    outcomeOf((program) => program),
    'done',
    'the thread works as before',
  )
})

t.test('random words behind a valid header', async () => {
  const words = fc.uint32Array({ maxLength: 60 })
  const small = words.map((list) => list.map((word) => word % 40))
  const random = fc.property(fc.oneof(words, small), fc.nat(3), (list, steps) => {
    const header = [
      ...new Uint32Array(Uint8Array.from(valid(0)).buffer).subarray(0, 2),
      4,
      2,
      fills.length,
      steps,
      0,
      0,
      0,
      0,
    ]
    const outcome = outcomeOf(() => new Uint8Array(new Uint32Array([...header, ...list]).buffer))
    return list.length + steps === 0 ? outcome === 'done' : outcome !== 'refused'
  })
  fc.assert(random, { numRuns: 1000 })
})

t.test('each fd is what it was', async (t) => {
  t.same(fds(), atFirst)
})
