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
    // whoever changes ids becomes undumpable, and its files in /proc are root's. These two remember and undo that
    const pool = new DropPool({ name: 'drop', threads: 1, cpus: [] })
    const args = [65534, 65534].map((value) => ({ kind: 'int', value }))
    pool.runSync(new DropPlan('before').add({ call: 'assume_fsids', args }).build())
    process.setgroups([])
    process.setgid(65534)
    process.setuid(65534)
    pool.runSync(new DropPlan('after').add({ call: 'restore_fsids', args }).build())
    pool.close()
  }
`
