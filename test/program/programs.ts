/**
 * What the tests of programs share: plans from a function, the addon without the Pool around it, and tests after
 * which no fd is left.
 */
import type { Test } from 'tap'
import { binding } from '../../lib/binding.js'
import { encode } from '../../lib/program/encode.js'
import { type Plan, PlanBuilder } from '../../lib/program/plan.js'
import { Pool } from '../../lib/program/pool.js'
import { decodeResult, type ProgramResult } from '../../lib/program/result.js'
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
  run(plan: Plan): ProgramResult
  /** a program as bytes, whatever they are */
  runBytes(program: Uint8Array): ProgramResult
}

/** A pool of one thread; ended in teardown. Outputs stay open: `closeOutputs`. */
export const nativePool = (t: Teardown): NativePool => {
  const id = binding.createPool('test', 1, [])
  if (id < 0) throw new Error(`createPool: errno ${-id}`)
  t.teardown(() => binding.closePool(id))
  const runBytes = (program: Uint8Array) => decodeResult(binding.runSync(id, program))
  return { id, runBytes, run: (plan) => runBytes(encode(plan)) }
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

/** Tests after each of which the same fds are open as before. Pools made by `poolOf` are ended. */
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
    })
