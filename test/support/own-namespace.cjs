/**
 * Preloaded into each test file (`node-arg` in .taprc): as root, moves the process into a mount
 * namespace of its own before anything else runs in it.
 *
 * It has to be a `--require`, synchronous: a mount namespace belongs to a thread, and threads take it
 * from whoever starts them. libuv starts its pool at the first asynchronous call and module hooks get a
 * worker thread as soon as `--import` asks for them; both come after this file. Only V8's platform threads
 * are older, and those make no file calls. test/support/own-namespace.test.ts looks at every thread.
 *
 * Without the right to mount (a plain user, or a container's root) nothing is done, and what needs the
 * right is skipped: `privileged` in needs.ts asks for the mark that is left here.
 */
'use strict'

const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const { isMainThread } = require('node:worker_threads')

const CAP_SYS_ADMIN = 21n
const CLONE_NEWNS = 0x20000
const MS_REC = 0x4000
const MS_PRIVATE = 0x40000

/** root of the machine: a user namespace's root may mount, but not idmap what belongs to the machine */
const mayMount = () => {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  const uidMap = readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/).join(' ')
  return ((BigInt(`0x${effective}`) >> CAP_SYS_ADMIN) & 1n) === 1n && uidMap === '0 0 4294967295'
}

/**
 * @param {number} result what the addon answered: a negative errno on failure
 * @param {string} call as it is to be named in the error
 */
const check = (result, call) => {
  if (result < 0) throw new Error(`own-namespace: ${call} failed with errno ${-result}`)
}

if (isMainThread && mayMount()) {
  const binding = require('node-gyp-build')(join(__dirname, '../..'))
  check(binding.unshare(CLONE_NEWNS), 'unshare(CLONE_NEWNS)')
  check(
    binding.mount(null, Buffer.from('/\0'), null, MS_REC | MS_PRIVATE, null),
    'mount(/, MS_REC|MS_PRIVATE)',
  )
  globalThis[Symbol.for('overlayfd.test.own-namespace')] = true
}
