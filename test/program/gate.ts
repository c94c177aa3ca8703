/**
 * A program that waits where the test wants it to: it opens a pipe with a name, which takes until somebody
 * opens the other end.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, constants, existsSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { cwd, type Plan } from '../../lib/program/plan.js'
import { planOf } from './programs.js'

export interface Gate {
  readonly path: string
  /**
   * Makes `before`, waits at the gate, makes `after`; in the end `always`, and without `before` if it failed.
   * `commits`: what is made before the gate is visible to others.
   */
  plan(commits?: boolean): Plan
  /** resolves when the plan has made `before`: it is at the gate, or will be in a moment */
  isRunning(): Promise<void>
  /** `ended`: what an abort may end before it comes to the gate */
  release(ended?: Promise<unknown>): Promise<void>
}

export const gate = (dir: string): Gate => {
  const path = join(dir, 'gate')
  execFileSync('mkfifo', [path])
  return {
    path,
    plan: (commits = false) =>
      planOf((b) => {
        const made = c.mkdir(join(dir, 'before'), 0o700, { commits })
        b.add(made, c.openat(b.slot('gate'), cwd, path, f.O_RDONLY), c.mkdir(join(dir, 'after'), 0o700))
        b.undo(made, c.rmdir(cwd, join(dir, 'before'))).always(c.mkdir(join(dir, 'always'), 0o700))
      }),
    async isRunning() {
      while (!existsSync(join(dir, 'before'))) await sleep(1)
    },
    async release(ended) {
      let isOver = false
      const over = () => {
        isOver = true
      }
      ended?.then(over, over)
      while (!isOver) {
        try {
          return closeSync(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK))
        } catch (error) {
          // nobody is waiting yet
          if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error
          await sleep(1)
        }
      }
    },
  }
}
