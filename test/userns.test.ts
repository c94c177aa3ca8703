/** The call `userns` of native/userns.cc: a user namespace as an fd, with nothing left of the child it takes. */
import { chownSync, fstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import * as f from '../lib/flags.js'
import * as c from '../lib/program/calls.js'
import { renderCall } from '../lib/program/explain.js'
import { cwd, held, type Plan, PlanBuilder } from '../lib/program/plan.js'
import type { Pool } from '../lib/program/pool.js'
import { statxField } from '../lib/program/step.js'
import { closeOutputs, fdTests, planOf } from './program/programs.js'
import { dist, run, runModule } from './support/child.js'
import { fds } from './support/counts.js'
import { all, privileged, programs } from './support/needs.js'
import { dropSource } from './support/plain-user.js'
import { scratch } from './support/scratch.js'

const test = fdTests(t)

/** Hands out a namespace with these maps. */
const usernsPlan = (uidMap: string, gidMap = uidMap): Plan =>
  planOf((b) => b.add(c.userns(b.output(b.slot('userns')), uidMap, gidMap)))

/** Processes that this one is the parent of, zombies too. */
const children = (): string[] =>
  readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false
    try {
      const status = readFileSync(`/proc/${name}/status`, 'utf8')
      return status.includes(`\nPPid:\t${process.pid}\n`)
    } catch {
      return false // it is gone
    }
  })

const mapsTest = (t: Test, poolOf: (threads?: number) => Pool) => {
  const { path } = scratch(t)
  // owners on disk, and as the idmapped clone shows them
  const owners: [disk: [number, number], shown: [number, number]][] = [
    [[0, 0], [100_000, 300_000]],
    [[7, 7], [100_007, 300_007]],
    [[65_535, 0], [165_535, 300_000]],
    [[4_000_000, 10], [9, 65_534]],
    [[65_536, 1], [65_534, 300_001]],
  ] // biome-ignore format: a table
  for (const [i, [[uid, gid]]] of owners.entries()) {
    mkdirSync(path('tree', String(i)), { recursive: true })
    chownSync(path('tree', String(i)), uid, gid)
  }
  const b = new PlanBuilder('maps')
  const [userns, dir, clone] = [b.slot('userns'), b.slot('dir'), b.slot('clone')]
  const reports = owners.map((_, i) => c.statxPath(clone, String(i), true, { report: true }))
  b.add(c.userns(userns, '0 100000 65536\n4000000 9 1\n', '0 300000 8\n'))
  b.add(c.openat(dir, cwd, path('tree'), f.O_PATH | f.O_DIRECTORY))
  b.add(c.cloneTreeAttr(clone, dir, { set: f.MOUNT_ATTR_IDMAP, userns }), ...reports)
  const outcome = poolOf().runSync(b.build())
  for (const [i, [disk, shown]] of owners.entries()) {
    const found = outcome.report(reports[i]!)!
    const owner = [statxField.uid, statxField.gid].map(({ offset }) => found.readUInt32LE(offset))
    t.same(owner, shown, `${disk}`)
  }
}
test('the namespace has the maps', mapsTest, privileged)

test('an fd of a namespace of its own, close-on-exec', (t, poolOf) => {
  const outcome = poolOf().runSync(usernsPlan(`0 ${process.getuid?.()} 1\n`, `0 ${process.getgid?.()} 1\n`))
  const [fd] = outcome.outputs as [number]
  t.match(fds().get(fd), /^user:\[\d+\]$/)
  t.not(fds().get(fd), readlinkSync('/proc/self/ns/user'))
  t.match(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'), /^flags:\s+02[0-7]*00000$/m, 'O_RDONLY|O_CLOEXEC')
  closeOutputs(outcome)
})

const manyTest = async (t: Test, poolOf: (threads?: number) => Pool) => {
  let signals = 0
  const count = () => {
    signals++
  }
  process.on('SIGCHLD', count)
  const pool = poolOf(8)
  const map = (i: number) => `0 ${100_000 + 65_536 * i} 65536\n`
  const outcomes = await Promise.all(Array.from({ length: 200 }, (_, i) => pool.run(usernsPlan(map(i)))))
  const inodes = new Set(outcomes.map(({ outputs }) => fstatSync(outputs[0]!).ino))
  t.equal(inodes.size, 200, 'each a namespace of its own')
  t.same(children(), [], 'no child is left, no zombie')
  for (const outcome of outcomes) closeOutputs(outcome)
  await sleep(20)
  t.equal(signals, 0, 'no SIGCHLD: it would wake whoever waits for children of his own')
  process.off('SIGCHLD', count)
}
test('200 of them on 8 threads', manyTest, privileged)

const refusedTest = async (t: Test, poolOf: (threads?: number) => Pool) => {
  const lines = (count: number) => Array.from({ length: count }, (_, i) => `${i} ${i} 1\n`).join('')
  const good = '0 100000 1\n'
  const cases: [name: string, uidMap: string, gidMap?: string][] = [
    ['no map', 'x'],
    ['no numbers', 'a b c\n'],
    ['a length of 0', '0 0 0\n'],
    ['too few numbers', '0 0\n'],
    ['past the last id', '0 4294967295 1\n'],
    ['an overlap', '0 0 2\n1 9 1\n'],
    ['341 extents', lines(341)],
    ['a page', '0 1 1\n'.padEnd(4096, '\n')],
    ['bad groups after good users', good, 'x'],
  ]
  const pool = poolOf()
  for (const [name, uidMap, gidMap = good] of cases) {
    const whole = renderCall(usernsPlan(uidMap, gidMap).steps[0]!)
    // a long map is cut in a message
    const call = whole.length < 200 ? whole : /^userns\(/
    await t.rejects(pool.run(usernsPlan(uidMap, gidMap)), { code: 'EINVAL', syscall: 'userns', call }, name)
  }
  t.same(children(), [])
  for (const count of [1, 340]) closeOutputs(await pool.run(usernsPlan(lines(count), good)))
}
test('maps that the kernel refuses', refusedTest, privileged)

const asChild = (text: string) => `
  ${dropSource}
  import { Pool } from '${dist('program/pool.js')}'
  import { userns } from '${dist('program/calls.js')}'
  import { PlanBuilder } from '${dist('program/plan.js')}'
  const attempt = (uidMap, gidMap) => {
    const pool = new Pool({ name: 'userns', threads: 1, cpus: [] })
    const b = new PlanBuilder('userns')
    b.add(userns(b.output(b.slot('userns')), uidMap, gidMap))
    try {
      return pool.runSync(b.build()).outputs.length
    } catch (error) {
      return error.code
    }
  }
  ${text}
`

t.test('a plain user may map his own ids, and no others', async (t) => {
  const { stdout, stderr } = await runModule(
    asChild(`
      drop()
      const [uid, gid] = [process.getuid(), process.getgid()]
      console.log(JSON.stringify([
        attempt('0 ' + uid + ' 1\\n', '0 ' + gid + ' 1\\n'),
        attempt('0 0 1\\n', '0 ' + gid + ' 1\\n'),
        attempt('0 ' + uid + ' 1\\n', '0 0 1\\n'),
        attempt('0 ' + uid + ' 2\\n', '0 ' + gid + ' 1\\n'),
      ]))
    `),
  )
  // the first needs setgroups(2) to be given up
  t.same(JSON.parse(stdout || '[]'), [1, 'EPERM', 'EPERM', 'EPERM'], stderr)
})

t.test('a plain user, many times: the child must not be gone before its maps are written', async (t) => {
  const { stdout, stderr } = await runModule(
    asChild(`
      drop()
      const [uid, gid] = [process.getuid(), process.getgid()]
      const all = Array.from({ length: 300 }, () => attempt('0 ' + uid + ' 1\\n', '0 ' + gid + ' 1\\n'))
      console.log(JSON.stringify([...new Set(all)]))
    `),
  )
  t.same(JSON.parse(stdout || '[]'), [1], stderr)
})

t.test(
  'in a pid namespace whose /proc is another one’s, nobody else is touched',
  all(privileged, programs('unshare')),
  async (t) => {
    const script = asChild("console.log(JSON.stringify(attempt('0 0 1\\n', '0 0 1\\n')))")
    const args = ['--pid', '--fork', process.execPath, '--input-type=module', '--eval', script]
    const { stdout } = await run('unshare', args)
    t.equal(stdout, '"ENOENT"\n')
  },
)

t.test('a limit of namespaces', all(privileged, programs('unshare', 'sh')), async (t) => {
  // the limit is one of a user namespace: that of the machine stays as it is
  const shell = 'echo "$1" > /proc/sys/user/max_user_namespaces && shift && exec "$@"'
  const limited = (limit: number) => {
    const script = asChild(
      `console.log(JSON.stringify([attempt('0 0 1\\n', '0 0 1\\n'), attempt('0 7 1\\n', '0 0 1\\n')]))`,
    )
    const node = [process.execPath, '--input-type=module', '--eval', script]
    return run('unshare', ['--user', '--map-root-user', 'sh', '-c', shell, 'sh', String(limit), ...node])
  }
  t.match(await limited(0), { stdout: '["ENOSPC","ENOSPC"]\n' })
  t.match(await limited(9), { stdout: '[1,"EPERM"]\n' }, 'the id is not mapped where the process is')
})

const kindTest = (t: Test, poolOf: (threads?: number) => Pool) => {
  const b = new PlanBuilder('kind')
  const dir = b.slot('dir')
  b.add(c.openat(dir, cwd, '/', f.O_PATH | f.O_DIRECTORY))
  b.add(c.cloneTreeAttr(b.slot('clone'), dir, { set: f.MOUNT_ATTR_IDMAP, userns: held(0, 'stdin') }))
  t.throws(() => poolOf().runSync(b.build()), { code: 'EINVAL', call: /userns_fd=0<stdin>/ })
}
test('an fd of another kind is no namespace', kindTest, privileged)
