/** What native/pool.cc does with threads that a program takes to another mount namespace. */
import { readlinkSync, statSync } from 'node:fs'
import t from 'tap'
import * as f from '../../lib/flags.js'
import { MounterHost } from '../../lib/mounter/host.js'
import * as c from '../../lib/program/calls.js'
import { cwd, type Plan } from '../../lib/program/plan.js'
import { identityOf } from '../../lib/program/result.js'
import type { Step } from '../../lib/program/step.js'
import { namespaceOf, startContainer } from '../support/container.js'
import { settled, threads } from '../support/counts.js'
import { mounts } from '../support/mountinfo.js'
import { isPrivileged, privileged } from '../support/needs.js'
import { fdTests, planOf } from './programs.js'

const test = fdTests(t)
const dirFlags = f.O_PATH | f.O_DIRECTORY
const look = c.statxPath(cwd, '/', true, { report: true })

/** Goes to a namespace, looks at its root, and comes back, if there is a way back. */
const visit = (namespace: string, back?: 'home' | 'nowhere'): Plan =>
  planOf((b) => {
    const [home, root, there] = [b.slot('home'), b.slot('root'), b.slot('namespace')]
    b.add(c.openat(home, cwd, '/proc/thread-self/ns/mnt', f.O_RDONLY), c.openat(root, cwd, '/', dirFlags))
    b.add(c.openat(there, cwd, namespace, f.O_RDONLY))
    const entered = c.setns(there, f.CLONE_NEWNS)
    b.add(entered, look)
    const wayBack = back === 'home' ? home : root
    if (back) {
      const returned: Step = { ...c.setns(wayBack, f.CLONE_NEWNS), when: 'always', ifDone: entered }
      const above: Step = { ...c.fchdir(root), when: 'always', ifDone: returned }
      b.always(returned, above, { ...c.chroot('.'), ifDone: above, home: true })
    }
  })
/** On a thread of the pool: a program that leaves its thread alone would be run on the caller's. */
const stay = planOf((b) => b.add(c.chdir('/'), look))
const named = (name: string) => [...threads()].filter((thread) => thread[1] === name).map(([tid]) => tid)

const container = isPrivileged ? await startContainer(t) : undefined
const namespace = container?.namespace ?? ''

test(
  'a visit',
  async (t, poolOf) => {
    const pool = poolOf(2, 'visitors')
    const own = identityOf((await pool.run(stay)).report(look)!).mountId
    const outcome = pool.runSync(visit(namespace, 'home'))
    t.not(identityOf(outcome.report(look)!).mountId, own, 'another root')
    t.equal(pool.isSpoilt, false)
    for (let i = 0; i < 4; i++) t.equal(identityOf((await pool.run(stay)).report(look)!).mountId, own)
    t.equal(named('visitors').length, 2)
    for (const tid of named('visitors')) {
      t.equal(namespaceOf(tid), namespaceOf())
      t.equal(statSync(`/proc/self/task/${tid}/root/.`).ino, statSync('/').ino)
      t.equal(readlinkSync(`/proc/self/task/${tid}/cwd`), '/')
    }
  },
  privileged,
)

test(
  'never on the JS thread, and a failure comes back too',
  async (t, poolOf) => {
    const pool = poolOf(1)
    const fails = planOf((b) => {
      const [home, there] = [b.slot('home'), b.slot('namespace')]
      b.add(c.openat(home, cwd, '/proc/thread-self/ns/mnt', f.O_RDONLY))
      b.add(c.openat(there, cwd, namespace, f.O_RDONLY))
      const entered = c.setns(there, f.CLONE_NEWNS)
      b.add(entered, c.chdir('/nonexistent'))
      b.always({ ...c.setns(home, f.CLONE_NEWNS), ifDone: entered, home: true })
    })
    const before = namespaceOf()
    const own = identityOf((await pool.run(stay)).report(look)!).mountId
    for (const plan of [fails, fails]) {
      t.throws(() => pool.runSync(plan), { code: 'ENOENT', syscall: 'chdir' })
      await t.rejects(pool.run(plan), { code: 'ENOENT', syscall: 'chdir' })
    }
    t.equal(namespaceOf(), before)
    t.equal(pool.isSpoilt, false)
    t.equal(identityOf((await pool.run(stay)).report(look)!).mountId, own)
  },
  privileged,
)

test(
  'a thread that cannot come back serves no other program',
  async (t, poolOf) => {
    const pool = poolOf(2, 'strays')
    const own = identityOf((await pool.run(stay)).report(look)!).mountId
    const outcome = await pool.run(visit(namespace, 'nowhere'))
    t.not(identityOf(outcome.report(look)!).mountId, own, 'what it did is done')
    t.equal(pool.isSpoilt, true)
    t.equal(
      (
        await settled(
          () => named('strays'),
          ({ length }) => length === 1,
        )
      ).length,
      1,
      'it ends',
    )
    for (let i = 0; i < 20; i++) t.equal(identityOf((await pool.run(stay)).report(look)!).mountId, own)

    // the last one: what waits behind it must come to an end too
    const ends = await Promise.allSettled([pool.run(visit(namespace)), pool.run(stay), pool.run(stay)])
    t.same(
      ends.map(({ status }) => status),
      ['fulfilled', 'rejected', 'rejected'],
    )
    await t.rejects(pool.run(stay), { code: 'ERR_INVALID_STATE', message: /another mount namespace/ })
    t.throws(() => pool.runSync(stay), { code: 'ERR_INVALID_STATE' })
    const input = pool.counts
    t.match(input, { queued: 0, running: 0 })
    t.equal(named('strays').length, 1)
  },
  privileged,
)

test(
  'a thread that is moved for good',
  async (t, poolOf) => {
    const pool = poolOf(1, 'movers')
    const moved = planOf((b) => {
      b.add(c.unshare(f.CLONE_NEWNS), c.mount(null, '/', null, f.MS_REC | f.MS_PRIVATE, null))
      b.add(c.mount('empty', '/mnt', 'tmpfs', 0, null), c.mkdir('/mnt/old', 0o700), c.chdir('/mnt'))
      b.add(c.pivotRoot('.', 'old'), { ...c.umount('old', true), home: true })
    })
    const before = namespaceOf()
    const own = identityOf((await pool.run(stay)).report(look)!).mountId
    await pool.run(moved)
    t.equal(pool.isSpoilt, false)
    const there = identityOf((await pool.run(stay)).report(look)!).mountId
    t.not(there, own)
    const [tid] = named('movers')
    t.equal(namespaceOf(), before)
    t.not(namespaceOf(tid), before)
    t.equal(mounts(tid).length, 1, 'nothing is in it but its root')
  },
  privileged,
)

test(
  'a mounter replaces threads that were lost',
  async (t) => {
    const host = new MounterHost({ threads: 1, reapers: 1 })
    const before = host.here()
    t.equal(host.here(), before)
    before.composing.runSync(visit(namespace))
    const after = host.here()
    t.not(after, before)
    t.equal(host.here(), after)
    t.equal(after.namespace, before.namespace)
    const own = identityOf((await before.reaping.run(stay)).report(look)!).mountId
    t.equal(identityOf((await after.composing.run(stay)).report(look)!).mountId, own)
    await host.close()
    const gone = () => [...threads().values()].filter((name) => name.startsWith('ofd-'))
    t.same(await settled(gone, ({ length }) => length === 0), [], 'the old ones are ended')
  },
  privileged,
)
