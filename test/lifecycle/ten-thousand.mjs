/**
 * Ten thousand mounts and unmounts, and what is left of them: fds, mounts, threads, resident memory, and the
 * kernel's slabs, before and after. Ends with 1 if anything has grown.
 *
 *   unshare -m --propagation private node test/lifecycle/ten-thousand.mjs [COUNT]
 *
 * Every kind of mount takes part, in turns, some at the same time: from a warm stack, with a mapping of its
 * own, one-shot, detached, attached later, one that fails late. A first round is not measured: it fills
 * caches and pools. Under Node it starts itself again with a small young generation, which V8 otherwise lets
 * grow by 30 MB in the course of this, and with a collector that can be called.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const LAYERS = 10
const AT_ONCE = 16
const WARM_UP = 1000

const kilobytes = (file, field) =>
  Number(new RegExp(`^${field}:\\s*(\\d+) kB$`, 'm').exec(readFileSync(file, 'utf8'))?.[1])

/**
 * What there is now, sizes in KiB. `heap` is what JavaScript uses, `native` what is resident besides V8's heap;
 * V8 keeps empty pages, which are in `resident` alone. Slab is the whole machine's.
 */
export const measure = () => {
  const { heapTotal, heapUsed, rss } = process.memoryUsage()
  return {
    ...counted(),
    resident: rss >> 10,
    native: (rss - heapTotal) >> 10,
    heap: heapUsed >> 10,
    slab: kilobytes('/proc/meminfo', 'Slab'),
    unreclaimable: kilobytes('/proc/meminfo', 'SUnreclaim'),
  }
}

const counted = () => ({
  fds: readdirSync('/proc/self/fd').length,
  mounts: readFileSync('/proc/self/mountinfo', 'latin1').split('\n').length - 1,
  threads: readdirSync('/proc/self/task').length,
})

/** How much each may grow: nothing, or what is noise and less than 200 bytes a mount. */
const allowed = (count) => ({
  fds: 0,
  mounts: 0,
  threads: 0,
  resident: 24 * 1024 + count / 5,
  native: 6 * 1024 + count / 5,
  heap: 2 * 1024 + count / 5,
  // other programs have a part in this one
  unreclaimable: 8 * 1024 + count / 5,
})

/**
 * What has grown more than it may.
 * @param {ReturnType<typeof measure>} before
 * @param {ReturnType<typeof measure>} after
 * @param {number} count
 */
export const grown = (before, after, count) =>
  Object.entries(allowed(count))
    .filter(([name, limit]) => after[name] - before[name] > limit)
    .map(([name]) => name)

const mapping = (n) => {
  const range = [{ inside: 0, outside: 65536 * (n + 2), length: 65536 }]
  return { uid: range, gid: range }
}

/** Directories below `dir`: layers, and what each of those at the same time has for itself. */
const furnish = (dir) => {
  const at = (...names) => {
    mkdirSync(join(dir, ...names), { recursive: true })
    return join(dir, ...names)
  }
  const lowerdir = Array.from({ length: LAYERS }, (_, i) => at('layers', String(i), 'fs'))
  for (const layer of lowerdir) writeFileSync(join(layer, 'file'), layer)
  const containers = Array.from({ length: AT_ONCE }, (_, i) => ({
    upperdir: at('containers', String(i), 'upper'),
    workdir: at('containers', String(i), 'work'),
    target: at('containers', String(i), 'rootfs'),
  }))
  return { lowerdir, containers }
}

/** The kinds of mounts; each mounts and unmounts once. */
const kinds = ({ mounter, stack, lowerdir }) => {
  const use = async (made) => {
    const rootfs = await made
    readFileSync(join(rootfs.path, 'file'))
    await rootfs.unmount()
  }
  const failing = async (made) => {
    const error = await made.then(
      () => undefined,
      (thrown) => thrown,
    )
    if (error?.code !== 'ELOOP') throw error ?? new Error('a mount that had to fail was made')
  }
  return [
    (at) => use(stack.mount(at)),
    (at, i) => use(stack.mount({ ...at, idmap: mapping(1 + (i % 1000)) })),
    (at, i) => use(mounter.mount({ lowerdir, ...at, idmap: mapping(i % 7) })),
    ({ upperdir, workdir }) => use(stack.mount({ upperdir, workdir })),
    async ({ upperdir, workdir, target }) => {
      const rootfs = await stack.mount({ upperdir, workdir })
      await rootfs.attach(target)
      await use(rootfs)
    },
    (at, i) => failing(mounter.mount({ ...at, lowerdir: [lowerdir[0], lowerdir[0]], idmap: mapping(i % 7) })),
  ]
}

/** @param {number} count how many mounts, after the first round */
export const run = async (count, warmUp = WARM_UP) => {
  const { Mounter } = await import('../../dist/index.js')
  const dir = mkdtempSync(join(tmpdir(), 'overlayfd-ten-thousand-'))
  execFileSync('mount', ['-n', '-t', 'tmpfs', 'overlayfd-ten-thousand', dir])
  try {
    const { lowerdir, containers } = furnish(dir)
    const mounter = new Mounter()
    const stack = await mounter.open({ lowerdir, idmap: mapping(0) })
    const some = kinds({ mounter, stack, lowerdir })
    let made = 0
    const round = async (total) => {
      for (const end = made + total; made < end; ) {
        const batch = containers.slice(0, Math.min(AT_ONCE, end - made))
        await Promise.all(batch.map((at) => some[made % some.length](at, made++)))
      }
      await mounter.trim()
      globalThis.gc?.()
      // superblocks end in the background
      await sleep(200)
      return measure()
    }
    const before = await round(warmUp)
    const begin = performance.now()
    const after = await round(count)
    const seconds = (performance.now() - begin) / 1000
    await stack.close()
    await mounter.close()
    return { before, after, seconds, grown: grown(before, after, count) }
  } finally {
    execFileSync('umount', ['-n', '-l', dir])
    rmdirSync(dir)
  }
}

const report = async (count) => {
  const result = await run(count)
  console.log(`${count} mounts and unmounts in ${result.seconds.toFixed(1)} s`)
  for (const name of Object.keys(result.before)) {
    const [before, after] = [result.before[name], result.after[name]]
    const note = result.grown.includes(name) ? '   grown' : ''
    console.log(`${name.padEnd(14)} ${String(before).padStart(9)} → ${String(after).padStart(9)}${note}`)
  }
  return result.grown.length > 0 ? 1 : 0
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const count = Number(process.argv[2] ?? 10_000)
  const isPlainNode = process.versions.bun === undefined && globalThis.Deno === undefined && !globalThis.gc
  const flags = ['--expose-gc', '--max-semi-space-size=2']
  process.exitCode = isPlainNode
    ? (spawnSync(process.execPath, [...flags, ...process.argv.slice(1)], { stdio: 'inherit' }).status ?? 1)
    : await report(count)
}
