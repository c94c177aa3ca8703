/**
 * What the tests of programs share: plans from a function, the addon without the Pool around it, and tests after
 * which no fd is left.
 */
import type { Test } from 'tap'
import { binding } from '../../lib/binding.js'
import { encode, encodeFills } from '../../lib/program/encode.js'
import { type Plan, PlanBuilder } from '../../lib/program/plan.js'
import { Pool } from '../../lib/program/pool.js'
import { decodeResult, type ProgramResult } from '../../lib/program/result.js'
import type { Fill } from '../../lib/program/step.js'
import { fds } from '../support/counts.js'
import type { Needs } from '../support/needs.js'
import type { Teardown } from '../support/scratch.js'

/** A plan made by adding to a builder. */
export const planOf = (add: (b: PlanBuilder) => void, slots = 0): Plan => {
  const b = new PlanBuilder('test', slots)
  add(b)
  return b.build()
}

export interface NativePool {
  readonly id: number
  run(plan: Plan, fills?: readonly Fill[]): ProgramResult
  /** a program as bytes, whatever they are, or one that was prepared; what fills its holes as bytes too */
  runBytes(program: Uint8Array | number, fills?: Uint8Array): ProgramResult
}

/** The addon writes each result to the same memory: this one is its caller's. */
export const resultOf = (bytes: Uint8Array): ProgramResult =>
  decodeResult(new DataView(Uint8Array.from(bytes).buffer))

/** What fills holes, as bytes of their own. */
export const fillBytes = (fills: readonly Fill[]): Uint8Array => {
  const { memory, words } = encodeFills(fills)
  return Uint8Array.prototype.slice.call(memory, 0, words * 4)
}

/** A pool of one thread; ended in teardown. Outputs stay open: `closeOutputs`. */
export const nativePool = (t: Teardown): NativePool => {
  const id = binding.createPool('test', 1, [])
  if (id < 0) throw new Error(`createPool: errno ${-id}`)
  t.teardown(() => binding.closePool(id))
  const runBytes = (program: Uint8Array | number, fills?: Uint8Array) =>
    resultOf(binding.runSync(id, program, fills, fills && Math.floor(fills.length / 4)))
  return { id, runBytes, run: (plan, fills) => runBytes(encode(plan), fills && fillBytes(fills)) }
}

/** Closes what a program handed out; how many fds that were. */
export const closeOutputs = ({ outputs }: Pick<ProgramResult, 'outputs'>): number => {
  const open = outputs.filter((fd) => fd >= 0)
  for (const fd of open) {
    const result = binding.closeOwned(fd)
    if (result !== 0) throw new Error(`closeOwned(${fd}): ${result}`)
  }
  return open.length
}

export const errno = {
  ENOENT: 2,
  EBADF: 9,
  EAGAIN: 11,
  EEXIST: 17,
  ENOTDIR: 20,
  EINVAL: 22,
  ESTALE: 116,
} as const

type FdTest = (t: Test, poolOf: (threads?: number, name?: string) => Pool) => unknown

/** Tests after each of which the same fds are open as before, and nothing is claimed. Pools made by `poolOf` are ended. */
export const fdTests =
  (parent: Test) =>
  (name: string, body: FdTest, needs: Needs = {}) =>
    parent.test(name, needs, async (t) => {
      const before = fds()
      const pools: Pool[] = []
      await body(t, (threads = 1, name = 'test') => {
        pools.push(new Pool({ name, threads, cpus: [] }))
        return pools.at(-1)!
      })
      for (const pool of pools) {
        await pool.settle()
        pool.close()
      }
      t.same(fds(), before, 'the same fds as before')
      t.equal(binding.ownedFds(), 0)
      t.equal(binding.claims(), 0)
    })
