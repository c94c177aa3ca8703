/**
 * Bytes that are no program, or another one than was meant: nothing is read outside of them, nothing crashes,
 * and no fd but those of the program is touched. The program that is spoilt here only looks at /proc, so that
 * whatever becomes of it does no harm.
 */
import { readdirSync } from 'node:fs'
import fc from 'fast-check'
import t from 'tap'
import { binding } from '../../lib/binding.js'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { encode } from '../../lib/program/encode.js'
import { cwd, held } from '../../lib/program/plan.js'
import type { ProgramResult } from '../../lib/program/result.js'
import { statfsField, statxField } from '../../lib/program/step.js'
import { fds } from '../support/counts.js'
import { closeOutputs, errno, nativePool, planOf } from './programs.js'

const pool = nativePool(t)

/** An fd that programs may take over. */
const ownedFd = (): number => {
  const { outputs } = pool.run(
    planOf((b) => b.add(c.openat(b.output(b.slot('proc')), cwd, '/proc', f.O_PATH))),
  )
  return outputs[0]!
}

/** A program with everything in it that programs have. */
const valid = (input: number): Uint8Array =>
  encode(
    planOf((b) => {
      const proc = b.input('proc', input)
      const [self, below, again, fs] = ['self', 'below', 'again', 'fs'].map((name) => b.slot(name))
      const ino = b.register('ino')
      const remember = [{ field: statxField.ino, register: ino }]
      const expect = [
        { field: statxField.ino, value: ino },
        { field: statxField.mode, mask: 0xf000n, value: 0x4000n },
      ]
      const open = c.openat(self!, cwd, '/proc/self', f.O_PATH | f.O_DIRECTORY)
      b.add(open, c.openat2(below!, proc, 'sys', f.O_PATH, f.RESOLVE_BENEATH))
      b.add(c.statxFd(self!, true, { remember, report: true }))
      b.add(
        c.openat(again!, cwd, ['/proc/self/fd/', self!, '/.', held(input, 'proc')], f.O_PATH, {
          tolerate: [errno.ENOENT],
        }),
      )
      b.add(c.statxFd(self!, true, { expect, ifDone: open }))
      b.add(c.fstatfs(below!, { expect: [{ field: statfsField.type, value: 0x9fa0n }] }))
      b.add(c.fsopen(fs!, 'tmpfs', { tolerate: [1] }))
      b.add(c.setString(fs!, 'size', '4096', { tolerate: [errno.EBADF, errno.EINVAL] }))
      b.add(c.setFd(fs!, 'k', self!, { tolerate: [errno.EBADF, errno.EINVAL] }))
      b.add(c.fchdir(self!), c.close(below!))
      b.undo(open, c.statxFd(self!, true))
      b.always(c.chdir('/'))
      b.output(self!)
      b.output(again!)
    }),
  )

/** Runs bytes; undefined if they were refused before they were taken. */
const attempt = (program: Uint8Array): ProgramResult | undefined => {
  try {
    return pool.runBytes(program)
  } catch (error) {
    if (error instanceof TypeError) return undefined
    throw error
  }
}

/** Their numbers, quickly: the whole map takes a call for each. */
const numbers = () => readdirSync('/proc/self/fd').join()

/** Runs what `spoil` makes of a valid program, and looks whether an fd is left or gone. */
const outcomeOf = (spoil: (program: Uint8Array) => Uint8Array): string => {
  const before = numbers()
  const input = ownedFd()
  const result = attempt(spoil(valid(input)))
  if (result) closeOutputs(result)
  binding.closeOwned(input)
  if (binding.ownedFds() !== 0) throw new Error(`${binding.ownedFds()} fds are left`)
  if (numbers() !== before) throw new Error(`fds were ${before}, are ${numbers()}`)
  return result?.status ?? 'refused'
}

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
  const header = 4 * (5 + 3 + 3)
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
    const header = [...new Uint32Array(valid(0).slice(0, 8).buffer), 4, 2, steps, 0, 0]
    const outcome = outcomeOf(() => new Uint8Array(new Uint32Array([...header, ...list]).buffer))
    return list.length + steps === 0 ? outcome === 'done' : outcome !== 'refused'
  })
  fc.assert(random, { numRuns: 1000 })
})

t.test('each fd is what it was', async (t) => {
  t.same(fds(), atFirst)
})
