/**
 * Ends while a call of an owned thread does not come back, as one that waits for a server of FUSE or NFS: neither
 * worker.terminate() nor process.exit() waits for it for ever, and when it comes back after all, the thread that was left
 * does what its program says for that case and ends. A pipe that nobody opens at the other end is such a call too.
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import t, { type Test } from 'tap'
import { dist, runModule } from '../support/child.js'

const prelude = `
  import { closeSync, existsSync, openSync, readFileSync, readdirSync, readlinkSync } from 'node:fs'
  import { setTimeout as sleep } from 'node:timers/promises'
  import { isMainThread, parentPort, Worker } from 'node:worker_threads'
  const dir = process.argv[1] ?? process.env.DIR
  const begin = async () => {
    const { Pool } = await import(${JSON.stringify(dist('program/pool.js'))})
    const { cwd, PlanBuilder } = await import(${JSON.stringify(dist('program/plan.js'))})
    const c = await import(${JSON.stringify(dist('program/calls.js'))})
    const b = new PlanBuilder('hangs')
    const made = c.mkdir(dir + '/before', 0o700)
    b.add(made, c.openat(b.slot('gate'), cwd, dir + '/gate', 0), c.mkdir(dir + '/after', 0o700))
    b.undo(made, c.rmdir(cwd, dir + '/before')).always(c.mkdir(dir + '/always', 0o700))
    const pool = new Pool({ name: 'hung', threads: 2, cpus: [] })
    pool.run(b.build()).catch(() => {})
    while (!existsSync(dir + '/before')) await sleep(1)
  }
  const hung = () => readdirSync('/proc/self/task').filter((tid) => {
    try { return readFileSync('/proc/self/task/' + tid + '/comm', 'utf8') === 'hung\\n' } catch { return false }
  }).length`

const place = (t: Test) => {
  const dir = t.testdir({})
  execFileSync('mkfifo', [`${dir}/gate`])
  return dir
}

t.test('worker.terminate', async (t) => {
  const dir = place(t)
  const { status, signal, stdout, stderr } = await runModule(
    `${prelude}
    const code = ${JSON.stringify(prelude)} + '\\nawait begin(); parentPort.postMessage(0); setInterval(() => {}, 1000)'
    const url = new URL('data:text/javascript,' + encodeURIComponent(code))
    const own = () => readdirSync('/proc/self/fd').filter((fd) => {
      try { return readlinkSync('/proc/self/fd/' + fd).startsWith(dir) } catch { return false }
    }).length
    const worker = new Worker(url, { env: { ...process.env, DIR: dir } })
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
    await worker.terminate()
    const left = hung()
    while (hung() > 0) {
      try { closeSync(openSync(dir + '/gate', 0o4001)) } catch {}
      await sleep(5)
    }
    console.log(JSON.stringify({ left, fds: own() }))`,
    [dir],
  )
  t.same({ status, signal, stderr }, { status: 0, signal: null, stderr: '' })
  t.same(JSON.parse(stdout), { left: 1, fds: 0 }, 'one is left, and closes what it opened')
  const made = ['before', 'after', 'always'].map((name) => existsSync(`${dir}/${name}`))
  t.same(made, [false, false, true], 'it was told to stop')
})

t.test('process.exit', async (t) => {
  const dir = place(t)
  const { status, signal, isTimedOut, stderr } = await runModule(
    `${prelude}
    await begin()
    process.exit(7)`,
    [dir],
  )
  t.same({ status, signal, isTimedOut, stderr }, { status: 7, signal: null, isTimedOut: false, stderr: '' })
})
