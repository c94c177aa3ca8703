/**
 * What every runtime has to do with the one binary that was built: load it, mount, mount at once, fail with the
 * whole error, unmount, and end in any way. `test/runtimes/run` runs it once a runtime, as root, in a mount
 * namespace of its own; it uses plain asserts and dist/, so that nothing but the runtime differs.
 *
 *   smoke.mjs NAME [ARGUMENT…]    NAME is printed; the arguments are what the runtime needs before a script
 *
 * Prints a line a check and `N passed, N failed, N skipped`.
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  container,
  dir,
  endsWell,
  FIRST_ID,
  lowerdir,
  mountedBelow,
  prepare,
  remove,
  runtime,
  runtimeArguments,
  terminates,
} from './place.mjs'

const AT_ONCE = 64
const only = [{ inside: 0, outside: FIRST_ID, length: 65536 }]
const idmap = { uid: only, gid: only }
const fds = () => readdirSync('/proc/self/fd').length

/** Waits for what is closed in the background. */
const until = async (isDone, milliseconds = 5000) => {
  const end = performance.now() + milliseconds
  while (!isDone() && performance.now() < end) await sleep(10)
  return isDone()
}

/** @type {[name: string, check: (api: any) => unknown][]} */
const checks = [
  [
    'require() gives the same module',
    (api) => {
      const required = createRequire(import.meta.url)('../../dist/index.js')
      assert.equal(required.mountOverlay, api.mountOverlay)
    },
  ],
  [
    'a system call, synchronously',
    async () => {
      const sys = await import('../../dist/sys.js')
      const fd = sys.fsopen('tmpfs')
      assert.ok(fd > 2)
      // not fs.closeSync: what node:fs calls an fd is a number of its own in Deno
      sys.close(fd)
      assert.throws(() => sys.fsopen('nosuchfs'), { code: 'ENODEV', syscall: 'fsopen' })
    },
  ],
  [
    'mountOverlay, attached, without idmap',
    async ({ mountOverlay }) => {
      const { upperdir, workdir, target } = container()
      const rootfs = await mountOverlay({ lowerdir: lowerdir(), upperdir, workdir, target })
      assert.equal(rootfs.path, target)
      assert.equal(await readFile(join(target, 'each'), 'utf8'), '0')
      assert.equal(statSync(join(target, 'only-3')).uid, 0)
      await writeFile(join(target, 'written'), 'here')
      assert.equal(readFileSync(join(upperdir, 'written'), 'utf8'), 'here')
      await rootfs.unmount()
      assert.deepEqual(mountedBelow(), [])
    },
  ],
  [
    'mountOverlay, attached, idmapped',
    async ({ mountOverlay }) => {
      const rootfs = await mountOverlay({ lowerdir: lowerdir(), ...container(), idmap })
      assert.equal(statSync(join(rootfs.path, 'only-3')).uid, FIRST_ID)
      await rootfs.unmount()
    },
  ],
  [
    'detached, used through its path, then attached',
    async ({ mountOverlay }) => {
      const { target, ...place } = container()
      const rootfs = await mountOverlay({ lowerdir: lowerdir(), ...place, idmap })
      assert.deepEqual(mountedBelow(), [])
      assert.equal(await readFile(join(rootfs.path, 'only-7'), 'utf8'), '7')
      await rootfs.attach(target)
      assert.equal(mountedBelow().length, 1)
      assert.equal(await readFile(join(target, 'only-7'), 'utf8'), '7')
      await rootfs.unmount()
    },
  ],
  [
    'the Sync forms',
    ({ mountOverlaySync }) => {
      const rootfs = mountOverlaySync({ lowerdir: lowerdir(), ...container() })
      assert.equal(readFileSync(join(rootfs.path, 'each'), 'utf8'), '0')
      rootfs.unmountSync()
      assert.deepEqual(mountedBelow(), [])
    },
  ],
  [
    `${AT_ONCE} mounts of a stack at once, half of them with a mapping of their own`,
    async ({ LayerStack }) => {
      const stack = await LayerStack.open({ lowerdir: lowerdir(), idmap })
      const own = (n) => [{ inside: 0, outside: FIRST_ID + 65536 * (n + 1), length: 65536 }]
      const all = await Promise.all(
        Array.from({ length: AT_ONCE }, (_, n) =>
          stack.mount(n % 2 ? container() : { ...container(), idmap: { uid: own(n), gid: own(n) } }),
        ),
      )
      assert.equal(mountedBelow().length, AT_ONCE)
      for (const [n, { path }] of all.entries()) {
        assert.equal(statSync(join(path, 'only-0')).uid, n % 2 ? FIRST_ID : FIRST_ID + 65536 * (n + 1))
      }
      await Promise.all(all.map((rootfs) => rootfs.unmount()))
      assert.deepEqual(mountedBelow(), [])
      await stack.close()
    },
  ],
  [
    'an error with all that it says',
    async ({ mountOverlay }) => {
      const missing = lowerdir().with(3, join(dir, 'layers/none/fs'))
      await assert.rejects(mountOverlay({ lowerdir: missing, ...container() }), (error) => {
        assert.equal(error.code, 'ENOENT')
        assert.ok(error instanceof Error && error.errno < 0 && error.syscall)
        assert.match(error.message, /^ENOENT: /)
        assert.match(error.message, /lowerdir\[3\]/)
        return true
      })
      await assert.rejects(async () => mountOverlay({ lowerdir: 7 }), { code: 'ERR_INVALID_ARG_TYPE' })
      assert.deepEqual(mountedBelow(), [])
    },
  ],
  ['a process that ends by itself', async () => endsWell('import,open,mount,unmount-all,close', 'natural')],
  ['process.exit with mounts pending', async () => endsWell('import,open,mount-pending', 'process.exit')],
  ['process.exit with mappings pending', async () => endsWell('import,open,mapping-pending', 'process.exit')],
  [
    'process.exit with unmounts pending',
    async () => endsWell('import,open,mount,unmount-pending', 'process.exit'),
  ],
  ['worker.terminate with mounts pending', async () => terminates('import,open,mount-pending')],
  ['worker.terminate with mappings pending', async () => terminates('import,open,mapping-pending')],
]

/** What a program needs that mounts: reading and writing are for its own directories, ffi is for addons. */
const permissions = ['--allow-ffi', '--allow-read', '--allow-write', '--allow-env', '--allow-sys']
if (globalThis.Deno) {
  const narrow = runtimeArguments.flatMap((argument) =>
    argument === '--allow-all' ? permissions : [argument],
  )
  checks.push([
    'with the permissions of the README alone',
    async () => endsWell('import,open,mount,unmount-all,close', 'natural', narrow),
  ])
}

const counted = { passed: 0, failed: 0, skipped: 0 }
const report = (outcome, name, milliseconds) => {
  console.log(`${outcome.padEnd(6)} ${runtime}: ${name} (${milliseconds.toFixed(0)} ms)`)
}

const main = async () => {
  const api = await import('../../dist/index.js')
  const check = async (name, body) => {
    const begin = performance.now()
    try {
      await body(api)
      counted.passed++
      report('ok', name, performance.now() - begin)
    } catch (error) {
      counted.failed++
      report('FAILED', name, performance.now() - begin)
      console.log(error)
    }
  }
  for (const [name, body] of checks) await check(name, body)
  await check('nothing is left: mounts, fds', async () => {
    // the first round has opened what a process keeps; a second one may not add to it
    const { LayerStack, Mounter } = api
    const round = async () => {
      const stack = await LayerStack.open({ lowerdir: lowerdir(), idmap })
      await (await stack.mount(container())).unmount()
      await stack.close()
      await Mounter.default.idle()
    }
    await round()
    const opened = fds()
    for (let n = 0; n < 10; n++) await round()
    assert.ok(await until(() => fds() <= opened), `${fds()} fds open, before ${opened}`)
    assert.deepEqual(mountedBelow(), [])
  })
}

prepare()
try {
  await main()
} finally {
  remove()
  console.log(`${counted.passed} passed, ${counted.failed} failed, ${counted.skipped} skipped`)
}
process.exitCode = counted.failed === 0 && counted.passed > 0 ? 0 : 1
