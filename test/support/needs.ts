/**
 * What a test needs of the machine, as tap's options: `t.test('mounts', privileged, async (t) => …)`.
 *
 * A test that cannot run is skipped, visibly, with the reason; test/support/run.mjs makes a skip a failure
 * for root. A missing program is the one reason it forgives outside of CI, because the README
 * promises that `npm test` needs nothing but Node and a compiler: hence the fixed beginning of the reason.
 */
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'

export type Needs = { readonly skip?: string }

/** run.mjs knows reasons that begin so. */
const NO_PROGRAM = 'no program'

/** Root in a mount namespace of the test's own; set by test/support/own-namespace.cjs. */
export const isPrivileged = Reflect.get(globalThis, Symbol.for('overlayfd.test.own-namespace')) === true

export const privileged: Needs = isPrivileged ? {} : { skip: 'needs root' }

const isInstalled = (program: string): boolean =>
  `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`.split(':').some((dir) => {
    try {
      accessSync(join(dir, program), constants.X_OK)
      return dir !== ''
    } catch {
      return false
    }
  })

/** Needs the named programs, and nothing else. */
export const programs = (...names: string[]): Needs => {
  const missing = names.filter((name) => !isInstalled(name))
  return missing.length === 0 ? {} : { skip: `${NO_PROGRAM}: ${missing.join(', ')}` }
}

/** Needs all of them; the first that is not there is the reason. */
export const all = (...needs: Needs[]): Needs => needs.find(({ skip }) => skip !== undefined) ?? {}
