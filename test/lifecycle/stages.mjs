/**
 * A program that gets as far as its stages say and then ends in one way: what exit.test.ts runs, and
 * test/runtimes/smoke.mjs under other runtimes. Plain JavaScript, and loads dist/, so that all of them can.
 *
 *   stages.mjs DIRECTORY STAGE,STAGE,… ENDING
 *
 * DIRECTORY holds layers/0/fs … as test/support/scratch.ts makes them. Each stage leaves what it made in `held`;
 * those called pending start something and do not wait for it. The endings that need no other process report
 * what they saw as one line of JSON.
 */
import { mkdirSync, readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

const AT_ONCE = 64

/** @returns {import('../../dist/index.js').IdMap} each with a range of its own */
const mapping = (n) => {
  const range = [{ inside: 0, outside: 100000 + 65536 * n, length: 65536 }]
  return { uid: range, gid: range }
}

/** upper, work and target of a container, made */
const container = (state) => {
  const base = join(state.dir, 'containers', `${state.name}-${state.made++}`)
  const at = (part) => {
    mkdirSync(join(base, part), { recursive: true })
    return join(base, part)
  }
  return { upperdir: at('upper'), workdir: at('work'), target: at('rootfs') }
}

const detached = (state) => ({ ...container(state), target: undefined })

/** Starts it AT_ONCE times. Nobody waits, so a failure must not end the process as an unhandled rejection. */
const pending = (state, start) => {
  for (let n = 0; n < AT_ONCE; n++) {
    const started = start(n)
    started.catch(() => {})
    state.held.push(started)
  }
}

/** @type {Record<string, (state: any) => void | Promise<void>>} */
export const stages = {
  async import(state) {
    state.overlayfd = await import('../../dist/index.js')
  },
  async sys(state) {
    const sys = await import('../../dist/sys.js')
    state.held.push(sys.fsopen('tmpfs'))
  },
  async open(state) {
    const lowerdir = readdirSync(join(state.dir, 'layers')).map((i) => join(state.dir, 'layers', i, 'fs'))
    state.stack = await state.overlayfd.LayerStack.open({ lowerdir, idmap: mapping(0) })
  },
  'open-pending'(state) {
    const lowerdir = readdirSync(join(state.dir, 'layers')).map((i) => join(state.dir, 'layers', i, 'fs'))
    pending(state, (n) => state.overlayfd.LayerStack.open({ lowerdir, idmap: mapping(n) }))
  },
  async mount(state) {
    state.held.push(await state.stack.mount(container(state)))
  },
  async detached(state) {
    state.held.push(await state.stack.mount(detached(state)))
  },
  'mount-pending'(state) {
    pending(state, () => state.stack.mount(container(state)))
  },
  'once-pending'(state) {
    const lowerdir = readdirSync(join(state.dir, 'layers')).map((i) => join(state.dir, 'layers', i, 'fs'))
    pending(state, () => state.overlayfd.mountOverlay({ lowerdir, ...container(state) }))
  },
  'detached-pending'(state) {
    pending(state, () => state.stack.mount(detached(state)))
  },
  'mapping-pending'(state) {
    pending(state, (n) => state.stack.mount({ ...container(state), idmap: mapping(n + 1) }))
  },
  'aborted-pending'(state) {
    const controller = new AbortController()
    pending(state, () => state.stack.mount(container(state), { signal: controller.signal }))
    controller.abort()
  },
  'unmount-pending'(state) {
    for (const rootfs of state.held) rootfs.unmount().catch(() => {})
  },
  async 'unmount-all'(state) {
    await Promise.all(state.held.map(async (rootfs) => (await rootfs).unmount()))
    await state.overlayfd.Mounter.default.idle()
  },
  async close(state) {
    await state.stack.close()
  },
  'close-pending'(state) {
    state.stack.close().catch(() => {})
  },
}

const reach = async (names, state) => {
  for (const name of names) await stages[name](state)
}

/** What every runtime opens and closes for itself: event loops, workers' channels, a spare fd, Deno's caches. */
const isRuntimes = (link) =>
  link === '/dev/null' ||
  /^(pipe|socket):|^anon_inode:\[(eventfd|eventpoll|signalfd|timerfd|io_uring)\]/.test(link) ||
  (process.env.DENO_DIR !== undefined && link.startsWith(process.env.DENO_DIR))

/** What the fds of the process refer to, those of the runtime left out. */
const openFds = () =>
  readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const link = readlinkSync(`/proc/self/fd/${fd}`)
      return isRuntimes(link) ? [] : [link]
    } catch {
      // that of the listing itself
      return []
    }
  })

const settledFds = async (wanted) => {
  for (let tries = 0; tries < 200 && openFds().length > wanted; tries++) await sleep(10)
  return openFds()
}

const inWorker = (dir, names, name) => {
  const worker = new Worker(new URL(import.meta.url), { workerData: { dir, names, name } })
  const reached = new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  return { worker, reached }
}

/** @type {Record<string, (dir: string, names: string[]) => Promise<unknown>>} */
const endings = {
  /** nothing but what is pending may keep it alive */
  async natural(dir, names) {
    await reach(names, kept(newState(dir, 'main')))
  },
  async 'process.exit'(dir, names) {
    await reach(names, kept(newState(dir, 'main')))
    process.exit(0)
  },
  async throw(dir, names) {
    await reach(names, kept(newState(dir, 'main')))
    throw new Error('thrown on purpose')
  },
  async 'worker.terminate'(dir, names) {
    const before = openFds().length
    const { worker, reached } = inWorker(dir, names, 'worker')
    await reached
    await worker.terminate()
    return { before, after: await settledFds(before) }
  },
  /** at any moment, of loading too, again and again */
  async 'worker.terminate at random'(dir, names) {
    const before = openFds().length
    for (let round = 0; round < 20; round++) {
      const { worker, reached } = inWorker(dir, names, `worker-${round}`)
      reached.catch(() => {})
      if (round % 4 !== 0) await reached
      await sleep(Math.random() * 20)
      await worker.terminate()
    }
    return { before, after: await settledFds(before) }
  },
  async gc(dir, names) {
    const warnings = []
    process.on('warning', ({ message }) => warnings.push(message))
    const before = openFds().length
    // a state of its own, so that no variable of this function keeps what it holds
    await (async () => reach(names, newState(dir, 'main')))()
    for (let tries = 0; tries < 100 && (tries < 20 || openFds().length > before); tries++) {
      globalThis.gc()
      await sleep(10)
    }
    return { before, after: openFds(), warnings }
  },
}

const newState = (dir, name) => ({ dir, name, made: 0, held: [], stack: undefined, overlayfd: undefined })

/** To the end of its environment, or what it holds may be collected a moment before, with a warning. */
function kept(state) {
  globalThis.state = state
  return state
}

if (isMainThread) {
  const [dir, names, ending] = process.argv.slice(2)
  const seen = await endings[ending](dir, names.split(',').filter(Boolean))
  if (seen !== undefined) console.log(JSON.stringify(seen))
} else {
  const { dir, names, name } = workerData
  await reach(names, kept(newState(dir, name)))
  parentPort.postMessage('reached')
}
