/**
 * A process that gives up root after it has used another id on an owned thread: every thread of it is without
 * capabilities then, and its own files in /proc are its own again.
 */
import t from 'tap'
import { dist, run } from '../support/child.js'
import { all, privileged, programs } from '../support/needs.js'

const script = `
  import { readdirSync, readFileSync, statSync } from 'node:fs'
  const { Pool } = await import(${JSON.stringify(dist('program/pool.js'))})
  const { PlanBuilder } = await import(${JSON.stringify(dist('program/plan.js'))})
  const c = await import(${JSON.stringify(dist('program/calls.js'))})
  const owner = () => statSync('/proc/self/environ').gid
  const before = owner()
  const pool = new Pool({ name: 'ofd-compose', threads: 2, cpus: [] })
  const plan = () => {
    const b = new PlanBuilder('ids')
    const assume = c.assumeFsids(100000, 100000)
    b.add(assume, c.chdir('/'))
    b.always(c.restoreFsids(0, process.getegid(), { ifDone: assume }))
    return b.build()
  }
  await Promise.all(Array.from({ length: 40 }, () => pool.run(plan())))
  const after = owner()
  process.setuid(65534)
  const capable = readdirSync('/proc/self/task').filter(
    (tid) => !/^CapEff:\\t0+$/m.test(readFileSync('/proc/self/task/' + tid + '/status', 'utf8')),
  )
  console.log(JSON.stringify({ before, after, capable }))`

t.test('ids that were borrowed leave no rights behind', all(privileged, programs('setpriv')), async (t) => {
  const args = ['--regid=1000', '--clear-groups', process.execPath, '--input-type=module', '--eval', script]
  const { status, stdout, stderr } = await run('setpriv', args)
  t.same({ status, stderr }, { status: 0, stderr: '' })
  t.same(JSON.parse(stdout), { before: 1000, after: 1000, capable: [] })
})
