import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { MountError } from '../../lib/errors.js'
import * as c from '../../lib/program/calls.js'
import { drive, driveSync, type Flow } from '../../lib/program/flow.js'
import { UnexpectedError } from '../../lib/program/outcome.js'
import { Pool } from '../../lib/program/pool.js'
import { statxField } from '../../lib/program/step.js'
import { gate } from './gate.js'
import { planOf } from './programs.js'

const pool = new Pool({ name: 'flow', threads: 2, cpus: [] })
t.teardown(async () => {
  await pool.settle()
  pool.close()
})
const mkdir = (path: string, abortable = true) => ({
  plan: planOf((b) => b.add(c.mkdir(path, 0o700))),
  pool,
  abortable,
})

/** What both ways of driving make of a flow: its value or what it throws. */
const bothWays = async <T>(flow: () => Flow<T>): Promise<unknown[]> => {
  const caught = (error: unknown) => error
  const found: unknown[] = [await drive(flow()).catch(caught)]
  try {
    found.push(driveSync(flow()))
  } catch (error) {
    found.push(error)
  }
  return found
}

t.test('outcomes go into the flow, its value comes out', async (t) => {
  const report = c.statxPath({ fd: -100, name: '' }, '/', true, { report: true })
  const flow = function* (): Flow<string> {
    const seen: boolean[] = []
    for (let i = 0; i < 3; i++) {
      const outcome = yield { plan: planOf((b) => b.add(report)), pool, abortable: true }
      seen.push(outcome.report(report) !== undefined)
    }
    return seen.join()
  }
  t.same(await bothWays(flow), ['true,true,true', 'true,true,true'])
  // biome-ignore lint/correctness/useYield: a flow that needs nothing
  const short = function* (): Flow<number> {
    return 7
  }
  t.same(await bothWays(short), [7, 7])
})

t.test('what a request fills the holes with', async (t) => {
  const dir = t.testdir({})
  const plan = planOf((b) => {
    const name = b.hole('name')
    b.add(c.mkdir([dir, '/', name], 0o700, { subject: { option: 'target', hole: name } }))
  })
  const flow = function* (names: string[]): Flow<string> {
    try {
      for (const name of names) yield { plan, fills: [name], pool, abortable: true }
      return 'made'
    } catch (error) {
      return String((error as MountError).path)
    }
  }
  t.equal(await drive(flow(['a', 'b'])), 'made')
  t.equal(driveSync(flow(['c', 'd'])), 'made')
  t.same(readdirSync(dir), ['a', 'b', 'c', 'd'])
  t.same(await bothWays(() => flow(['no/where', 'e'])), ['no/where', 'no/where'])
})

t.test('a failure is thrown where the flow waits for it', async (t) => {
  const dir = t.testdir({})
  let order: string[] = []
  const flow = function* (fails: string): Flow<string> {
    try {
      yield mkdir(join(dir, 'no/where'))
      return 'unreachable'
    } catch (error) {
      order.push((error as MountError).code)
      yield mkdir(join(dir, fails, String(order.length)))
      yield mkdir(join(dir, fails, String(order.length), 'inner'))
      return `went on after ${(error as MountError).syscall}`
    } finally {
      order.push('finally')
    }
  }
  t.same(await bothWays(() => flow('')), ['went on after mkdirat', 'went on after mkdirat'])
  t.same(readdirSync(dir, { recursive: true }).sort(), ['1', '1/inner', '3', '3/inner'])
  t.same(order, ['ENOENT', 'finally', 'ENOENT', 'finally'])
  order = []
  for (const error of await bothWays(() => flow('also/nowhere'))) {
    t.type(error, MountError, 'a second failure ends it')
    t.match(error, { path: undefined, call: /also\/nowhere/ })
  }
  t.same(order, ['ENOENT', 'finally', 'ENOENT', 'finally'])
})

t.test('what a flow throws itself, and what was not expected', async (t) => {
  // biome-ignore lint/correctness/useYield: it has nothing to wait for
  const throwing = function* (): Flow<void> {
    throw new RangeError('of its own')
  }
  for (const error of await bothWays(throwing)) t.match(error, { name: 'RangeError', message: 'of its own' })
  const expect = [{ field: statxField.ino, value: 0n }]
  const surprised = function* (): Flow<string> {
    try {
      const plan = planOf((b) => b.add(c.statxPath({ fd: -100, name: '' }, '/', true, { expect })))
      yield { plan, pool, abortable: true }
      return 'unreachable'
    } catch (error) {
      return error instanceof UnexpectedError ? 'unexpected' : String(error)
    }
  }
  t.same(await bothWays(surprised), ['unexpected', 'unexpected'])
})

t.test('an abort', async (t) => {
  const dir = t.testdir({})
  const at = (name: string) => join(dir, name)
  const { plan, isRunning, release } = gate(dir)
  const abort = new AbortController()
  const flow = function* (): Flow<string> {
    yield mkdir(at('first'))
    try {
      yield { plan: plan(), pool, abortable: true }
      return 'unreachable'
    } catch (error) {
      // what has to be done whatever happens is not abortable
      yield mkdir(at('cleanup'), false)
      try {
        yield mkdir(at('never'))
      } catch (again) {
        return `${error} ${again === error}`
      }
      return 'went on'
    }
  }
  const driven = drive(flow(), abort.signal)
  await isRunning()
  abort.abort('stopped')
  await release(driven)
  t.equal(await driven, 'stopped true', 'it stops a program, and every abortable one after it')
  t.same(readdirSync(dir), ['always', 'cleanup', 'first', 'gate'])

  let began = false
  // biome-ignore lint/correctness/useYield: it ends before
  const between = function* (): Flow<void> {
    began = true
    throw new Error('the flow decides')
  }
  await t.rejects(drive(between(), abort.signal), { message: 'the flow decides' })
  t.ok(began, 'a flow that runs no program is not aborted')
})

t.test('a request that cannot be sent is thrown into the flow too', async (t) => {
  const flow = function* (): Flow<string> {
    try {
      yield { plan: planOf((b) => void b.input('stdin', 0)), pool, abortable: true }
      return 'unreachable'
    } catch (error) {
      return (error as Error).name
    }
  }
  t.same(await bothWays(flow), ['TypeError', 'TypeError'])
})
