/** The supervisor itself, and that it, the table and the calls of the steps know the same calls. */
import { closeSync, openSync } from 'node:fs'
import t from 'tap'
import { MountError } from '../../lib/index.js'
import * as c from '../../lib/program/calls.js'
import { cwd, PlanBuilder } from '../../lib/program/plan.js'
import { Pool } from '../../lib/program/pool.js'
import { calls } from '../../lib/program/step.js'
import { fds } from '../support/counts.js'
import { privileged } from '../support/needs.js'
import { errnos, errnosOf, type SystemCall, systemCalls } from './errnos.js'
import { arm, closedLink, report, supervisedCalls } from './supervised.js'

t.test('each call of a step has a row, and the supervisor is asked about it', async (t) => {
  t.same(Object.keys(systemCalls).sort(), Object.keys(calls).sort())
  t.same(supervisedCalls().sort(), Object.keys(errnos).sort())
  const used = new Set(Object.values(systemCalls).flat())
  t.same([...used].sort(), Object.keys(errnos).sort(), 'no row without a step')
  for (const call of used) t.ok(errnosOf(call).length > 0, call)
})

const looking = (path: string) => {
  const b = new PlanBuilder('look')
  const slot = b.slot('dir')
  return b.add(c.openat(slot, cwd, path, 0), c.statxFd(slot, true), c.close(slot)).build()
}

t.test('what is asked for fails, once, and nothing else does', privileged, async (t) => {
  const pool = new Pool({ name: 'ofd-fault', threads: 1, cpus: [] })
  await pool.run(looking('/'))
  arm([])
  await pool.run(looking('/'))
  const usual = report()
  t.same(
    usual.map(({ call, errno, thread }) => [thread, call, errno]),
    ['openat', 'statx', 'close'].map((call) => ['ofd-fault', call, 0]),
  )
  for (const [index, call] of (['openat', 'statx', 'close'] as SystemCall[]).entries()) {
    arm([{ thread: 'ofd-fault', index, call, errno: 5 }])
    await t.rejects(pool.run(looking('/')), { name: MountError.prototype.name, code: 'EIO', step: index })
    await pool.run(looking('/'))
    const made = report()
    t.same(
      made.filter(({ errno }) => errno !== 0).map((each) => [each.call, each.errno]),
      [[call, 5]],
    )
    const standIns = [...fds()].filter(([, link]) => link === closedLink)
    t.equal(
      standIns.length,
      call === 'close' ? 1 : 0,
      'closed all the same, and its number is not given again',
    )
    for (const [fd] of standIns) closeSync(fd)
  }
  arm([{ thread: 'ofd-fault', index: 1, call: 'openat', errno: 5 }])
  await pool.run(looking('/'))
  t.same(
    report().filter(({ errno }) => errno !== 0),
    [],
    'another call stands there',
  )
  arm([{ thread: 'ofd-other', index: 0, call: 'openat', errno: 5 }])
  await pool.run(looking('/'))
  closeSync(openSync('/', 'r'))
  t.same(
    report().map(({ thread, errno }) => [thread, errno]),
    [0, 0, 0].map((errno) => ['ofd-fault', errno]),
    'other threads, and the calling one, are left alone',
  )
  await pool.run(looking('/'))
  t.same(report().length, 3, 'nothing is written down that was not asked for')
  t.throws(() => arm([{ thread: 'x', index: 0, call: 'reboot' as SystemCall, errno: 1 }]), /refused/)
  pool.close()
})
