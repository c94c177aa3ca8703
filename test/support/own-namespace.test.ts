/** Whether the preload is early enough: no thread of the process may be left in the old namespace. */
import { execFileSync } from 'node:child_process'
import { readFileSync, readlinkSync } from 'node:fs'
import { mkdtemp, readdir, rmdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { root, run } from './child.js'
import { threads } from './counts.js'
import { privileged } from './needs.js'

const own = readlinkSync('/proc/self/ns/mnt')

t.test('a namespace of its own, private', privileged, async (t) => {
  t.not(own, readlinkSync(`/proc/${process.ppid}/ns/mnt`), 'not the runner’s')
  t.notMatch(readFileSync('/proc/self/mountinfo', 'utf8'), / shared:| master:/, 'nothing propagates')
})

t.test('what is mounted here is seen by libuv’s pool and by workers', privileged, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'overlayfd-ns-'))
  execFileSync('mount', ['-n', '-t', 'tmpfs', 'test', dir])
  t.teardown(async () => {
    execFileSync('umount', ['-n', dir])
    await rmdir(dir)
  })
  await writeFile(join(dir, 'here'), '')
  // more calls at once than the pool has threads: each of its threads has to answer
  const seen = await Promise.all(Array.from({ length: 32 }, () => readdir(dir)))
  t.same(
    seen,
    Array.from({ length: 32 }, () => ['here']),
    'node:fs/promises',
  )
  const script = `require('node:worker_threads').parentPort.postMessage(require('node:fs').readdirSync(${JSON.stringify(dir)}))`
  const worker = new Worker(script, { eval: true })
  t.same(await new Promise((resolve) => worker.once('message', resolve)), ['here'], 'a worker thread')
  await worker.terminate()
  const outside = execFileSync('nsenter', [`--mount=/proc/${process.ppid}/ns/mnt`, 'ls', dir], {
    encoding: 'utf8',
  })
  t.equal(outside, '', 'the runner’s namespace does not have it')
})

t.test('only the threads that Node starts before any script are older', privileged, async (t) => {
  await Promise.all(Array.from({ length: 32 }, () => readdir('/')))
  const script = `process.stdout.write(String(require('node:fs').readdirSync('/proc/self/task').length))`
  const { stdout } = await run(process.execPath, ['--eval', script])
  const elsewhere = [...threads().keys()].filter(
    (tid) => readlinkSync(`/proc/self/task/${tid}/ns/mnt`) !== own,
  )
  t.equal(elsewhere.length, Number(stdout) - 1, 'all of a bare process but its main thread')
})

t.test('without the right nothing is done', privileged, async (t) => {
  const script = `process.stdout.write(String(globalThis[Symbol.for('overlayfd.test.own-namespace')]))`
  // as text, because a plain user may not be able to read a checkout of root's
  const preload = readFileSync(join(root, 'test/support/own-namespace.cjs'), 'utf8')
  const node = [process.execPath, '--eval', `${preload}\n${script}`]
  const users: [who: string, program: string, args: string[]][] = [
    ['a plain user', 'setpriv', ['--reuid=65534', '--clear-groups', ...node]],
    ['root without the capability', 'setpriv', ['--bounding-set=-sys_admin', ...node]],
    ['root of a user namespace', 'unshare', ['--user', '--map-root-user', ...node]],
  ]
  for (const [who, program, args] of users) {
    const { status, stdout, stderr } = await run(program, args)
    t.same({ status, stdout, stderr }, { status: 0, stdout: 'undefined', stderr: '' }, who)
  }
})
