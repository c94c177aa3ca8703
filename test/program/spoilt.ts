/**
 * A program with everything in it that programs have, and what runs what a test makes of it: it looks whether an fd
 * or a claim is left, or gone. It only looks at /proc, so that whatever becomes of it does no harm.
 */
import { readdirSync } from 'node:fs'
import t from 'tap'
import { binding } from '../../lib/binding.js'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { encode } from '../../lib/program/encode.js'
import { cwd, held } from '../../lib/program/plan.js'
import type { ProgramResult } from '../../lib/program/result.js'
import { type Fill, statfsField, statxField } from '../../lib/program/step.js'
import { closeOutputs, errno, fillBytes, nativePool, planOf } from './programs.js'

export const pool = nativePool(t)

/** An fd that programs may take over. */
export const ownedFd = (): number => {
  const { outputs } = pool.run(
    planOf((b) => b.add(c.openat(b.output(b.slot('proc')), cwd, '/proc', f.O_PATH))),
  )
  return outputs[0]!
}

export const fills: readonly Fill[] = ['/proc/self', Buffer.from('fd/'), 0x4000n, BigInt(f.AT_EMPTY_PATH)]

/** A program with everything in it that programs have. */
export const valid = (input: number): Uint8Array =>
  encode(
    planOf((b) => {
      const [path, piece, mode, flags] = ['path', 'piece', 'mode', 'flags'].map((name) => b.hole(name))
      const proc = b.input('proc', input)
      const [self, below, again, fs] = ['self', 'below', 'again', 'fs'].map((name) => b.slot(name))
      const ino = b.register('ino')
      const remember = [{ field: statxField.ino, register: ino }]
      const expect = [
        { field: statxField.ino, value: ino },
        { field: statxField.mode, mask: 0xf000n, value: 0x4000n },
        { field: statxField.mode, mask: 0xf000n, value: mode! },
      ]
      const open = c.openat(self!, cwd, '/proc/self', f.O_PATH | f.O_DIRECTORY)
      b.add(c.openat(below!, cwd, path!, f.O_PATH | f.O_DIRECTORY))
      b.add(open, c.openat2(below!, proc, 'sys', f.O_PATH, f.RESOLVE_BENEATH))
      b.add(c.statxFd(self!, true, { remember, report: true }))
      b.add(
        c.openat(again!, cwd, ['/proc/self/', piece!, self!, '/.', held(input, 'proc')], f.O_PATH, {
          tolerate: [errno.ENOENT],
        }),
      )
      const looked = c.statxFd(self!, true, { expect, ifDone: open, identifies: true, answers: true })
      b.add({ ...looked, args: looked.args.with(2, { kind: 'int', value: flags! }) })
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
export const attempt = (program: Uint8Array | number, filling: Uint8Array): ProgramResult | undefined => {
  try {
    return pool.runBytes(program, filling)
  } catch (error) {
    if (error instanceof TypeError) return undefined
    throw error
  }
}
/** What is handed out is given back: fds, and what was claimed. */
export const giveBack = (result: ProgramResult): void => {
  closeOutputs(result)
  if (result.status === 'done' && result.claim !== 0) binding.dropClaim(result.claim)
}

/** Their numbers, quickly: the whole map takes a call for each. */
export const numbers = () => readdirSync('/proc/self/fd').join()

/** Runs what `spoil` makes of a valid program, and looks whether an fd is left or gone. */
export const outcomeOf = (spoil: (program: Uint8Array) => Uint8Array, filling = fillBytes(fills)): string => {
  const before = numbers()
  const input = ownedFd()
  const result = attempt(spoil(valid(input)), filling)
  if (result) giveBack(result)
  binding.closeOwned(input)
  // what comes after a step that answers is still running
  pool.runBytes(nothing)
  if (binding.claims() !== 0) throw new Error(`${binding.claims()} claims are left`)
  if (binding.ownedFds() !== 0) throw new Error(`${binding.ownedFds()} fds are left`)
  if (numbers() !== before) throw new Error(`fds were ${before}, are ${numbers()}`)
  return result?.status ?? 'refused'
}

/** For a thread of the pool, and so behind what that is at. */
export const nothing = encode(planOf((b) => b.add(c.chdir('/'))))
export const same = (program: Uint8Array) => program
