/** What native/pool.cc does with its threads: names, CPUs, signals, directories, many at once. */
import { existsSync, readFileSync, readlinkSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { binding } from '../../lib/binding.js'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { cwd } from '../../lib/program/plan.js'
import { Pool } from '../../lib/program/pool.js'
import { fds, settled, threads } from '../support/counts.js'
import { closeOutputs, fdTests, planOf } from './programs.js'

const test = fdTests(t)
const dirFlags = f.O_PATH | f.O_DIRECTORY

test('threads', async (t) => {
  const cpu = availableParallelism() - 1
  const pool = new Pool({ name: 'a-name-that-is-too-long', threads: 3, cpus: [cpu] })
  await Promise.all(Array.from({ length: 30 }, () => pool.run(planOf((b) => b.add(c.chdir('/'))))))
  const own = () => [...threads()].filter(([, name]) => name === 'a-name-that-is-')
  t.equal((await settled(own, ({ length }) => length === 3)).length, 3)
  for (const [tid] of own()) {
    const status = readFileSync(`/proc/self/task/${tid}/status`, 'utf8')
    t.match(status, new RegExp(`^Cpus_allowed_list:\\t${cpu}$`, 'm'))
    const blocked = BigInt(`0x${/^SigBlk:\t(.*)$/m.exec(status)?.[1]}`)
    // all that can be blocked: KILL and STOP cannot, 32 and 33 are the C library's own
    t.equal(blocked | (1n << 8n) | (1n << 18n) | (3n << 31n), 2n ** 64n - 1n, 'no signal ends up here')
  }
  pool.close()
  t.notOk([...threads().values()].includes('a-name-that-is-'), 'close ends them')
})

test('directories of threads', async (t, poolOf) => {
  const dir = t.testdir({})
  const pool = poolOf(2, 'cwd-test')
  const own = readlinkSync('/proc/self/cwd')
  const plan = (goesBack: boolean) =>
    planOf((b) => {
      const slot = b.slot('dir')
      b.add(c.openat(slot, cwd, dir, dirFlags), c.fchdir(slot), c.openat(b.slot('.'), cwd, '.', dirFlags))
      if (goesBack) b.always(c.chdir('/'))
    })
  const directories = () =>
    [...threads()]
      .filter(([, name]) => name === 'cwd-test')
      .map(([tid]) => readlinkSync(`/proc/self/task/${tid}/cwd`))
  const isBack = (found: string[]) => String(found) === '/,/'
  t.same(
    await settled(directories, isBack),
    ['/', '/'],
    'not where the process was started: that would keep it busy',
  )
  await Promise.all(Array.from({ length: 20 }, () => pool.run(plan(true))))
  t.same(await settled(directories, isBack), ['/', '/'], 'left as it was')
  pool.runSync(plan(false))
  t.ok(directories().includes(dir), 'what a plan does not take back stays')
  t.equal(process.cwd(), own)
  for (const [tid, name] of threads()) {
    if (name !== 'cwd-test') t.equal(readlinkSync(`/proc/self/task/${tid}/cwd`), own, name)
  }
})

test('many programs over several pools', async (t, poolOf) => {
  const dir = t.testdir({})
  const pools = [poolOf(1), poolOf(3), poolOf(8)]
  const plan = (name: string) =>
    planOf((b) => {
      const slot = b.output(b.slot('dir'))
      const path = join(dir, name)
      const made = c.mkdir(path, 0o700)
      b.add(made, c.openat(slot, cwd, path, dirFlags), c.fchdir(slot), c.mkdir('x', 0o700))
      b.add(c.statxPath(cwd, 'x', true, { report: true }))
      b.always(c.chdir('/'))
    })
  const outcomes = await Promise.all(Array.from({ length: 600 }, (_, i) => pools[i % 3]!.run(plan(`${i}`))))
  t.equal(binding.ownedFds(), 600)
  const open = fds()
  t.equal(new Set(outcomes.map(({ outputs }) => outputs[0])).size, 600)
  for (const [i, { outputs }] of outcomes.entries()) {
    if (open.get(outputs[0]!) !== join(dir, `${i}`)) t.fail(`${i} got the fd of another program`)
    if (!existsSync(join(dir, `${i}`, 'x'))) t.fail(`${i} was made in another directory`)
  }
  for (const outcome of outcomes) closeOutputs(outcome)
  const failing = Array.from({ length: 300 }, (_, i) => pools[i % 3]!.run(plan(`${i}`)))
  t.ok((await Promise.allSettled(failing)).every(({ status }) => status === 'rejected'))
})
