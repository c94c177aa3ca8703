/**
 * Scripts that begin as root and go on as a plain user, so that whatever they load need not be readable for
 * everybody. Run by a plain user they are that user from the beginning.
 */
import { dist } from './child.js'

/** Source text of a function `drop()`, for a script given to `runModule`. What it needs is loaded before. */
export const dropSource = `
  import { Pool as DropPool } from '${dist('program/pool.js')}'
  import { PlanBuilder as DropPlan } from '${dist('program/plan.js')}'
  const drop = () => {
    if (process.getuid() !== 0) return
    process.setgroups([])
    process.setgid(65534)
    process.setuid(65534)
    // whoever changes ids becomes undumpable, and its files in /proc are root's: prctl(PR_SET_DUMPABLE, 1)
    const args = [4, 1, 0, 0, 0].map((value) => ({ kind: 'int', value }))
    const pool = new DropPool({ name: 'drop', threads: 1, cpus: [] })
    pool.runSync(new DropPlan('dumpable').add({ call: 'prctl', args }).build())
    pool.close()
  }
`
