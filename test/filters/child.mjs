/**
 * What runs behind a filter: a process that does with the library what it is told, a line of JSON a request, and
 * answers with a line. The test that drives it is not filtered, and looks at what came of it.
 *
 *   begin, end                with a Mounter of its own
 *   mount, stack, many, bind, tmpfs, open, take     make the mount that the others are about
 *   group, below              a mount that it is inside of
 *   install                   a filter that node could not have been started behind
 *
 * @typedef {{ op: string } & Record<string, any>} Request
 */
import { closeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const [index, seccomp] = process.argv.slice(2)
const { features, LayerStack, Mount, Mounter, MountGroup, Rootfs } = await import(String(index))

/** @type {any} */
let mounter
/** @type {any} */
let stack
/** @type {any} */
let mount
/** @type {any} what it is inside of, or what was made with it: unmounted after it */
let others = []

/** @param {any} object @param {string} name of a method @param {boolean | undefined} sync @param {any[]} args */
const call = (object, name, sync, ...args) => object[sync ? `${name}Sync` : name](...args)

const said = () => ({ rung: mount.rung, notes: mount.notes, path: mount.path, detached: mount.detached })

/** @type {Record<string, (request: Request) => any>} */
const operations = {
  features: () => ({ ...features() }),
  install: ({ filter }) => createRequire(import.meta.url)(String(seccomp)).install(filter),
  begin({ rung }) {
    mounter = new Mounter({ rung })
  },
  async mount({ options, sync }) {
    mount = await call(mounter, 'mount', sync, options)
    return said()
  },
  async stack({ layers, options, sync }) {
    stack = await call(LayerStack, 'open', sync, layers, { mounter })
    mount = await call(stack, 'mount', sync, options)
    return said()
  },
  async many({ layers, options }) {
    stack = await LayerStack.open(layers, { mounter })
    ;[mount, ...others] = await stack.mountMany(options)
    return said()
  },
  async bind({ options, sync }) {
    mount = await call(mounter, 'mountBind', sync, options)
    return said()
  },
  async tmpfs({ options, sync }) {
    mount = await call(mounter, 'mountTmpfs', sync, options)
    return said()
  },
  async change({ attributes, superblock, propagation, sync }) {
    if (attributes) await call(mount, 'setAttributes', sync, attributes)
    if (propagation) await call(mount, 'setPropagation', sync, propagation)
    if (superblock) await call(mount, 'reconfigure', sync, superblock)
  },
  async group({ target, name, options }) {
    const group = await MountGroup.open(target, { mounter })
    others = [group]
    mount = await mounter.mount({ ...options, target: group.target(name) })
    return said()
  },
  async below({ outer, source, from, to }) {
    const around = await mounter.mountTmpfs(outer)
    others = [around]
    try {
      mount = await mounter.mountBind({ source, target: { mount: around, path: from }, create: true })
      const other = await mounter.mountBind({ source, target: { mount: around, path: to }, create: true })
      await other.unmount()
      await mount.moveTo({ mount: around, path: to })
    } catch (error) {
      // with what is in it
      await around.unmount().catch(() => undefined)
      throw error
    }
    return said()
  },
  async take({ options }) {
    const fd = (await mounter.mount(options)).release()
    try {
      mount = await Rootfs.fromFd(fd, { mounter })
    } catch (error) {
      // it is still the caller's
      closeSync(fd)
      throw error
    }
    return said()
  },
  async attach({ target }) {
    await mount.attach(target)
    return said()
  },
  async open({ json, kind }) {
    mount = await (kind === 'mount' ? Mount : Rootfs).open(json, { mounter })
    return said()
  },
  json: () => JSON.stringify(mount),
  release: () => mount.release(),
  async reconcile({ dir }) {
    const found = await mounter.reconcile(dir, { unmount: true })
    return found.map((/** @type {any} */ { target, isUnmounted, error }) => ({
      target,
      isUnmounted,
      error: error && failure(error),
    }))
  },
  async unmount({ sync, way = {} }) {
    await call(mount, 'unmount', sync, way)
    mount = undefined
    for (const other of others) await other.unmount()
    others = []
  },
  async end() {
    // what could not be unmounted, or attached
    const fd = mount?.release()
    if (fd !== undefined) closeSync(fd)
    for (const other of others) other.release()
    await stack?.close()
    await mounter?.close()
    mounter = stack = mount = undefined
    others = []
  },
}

/** @param {any} error */
const failure = ({ name, message, code, syscall, rung }) => ({ name, message, code, syscall, rung })

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  let answer
  try {
    answer = { value: await operations[request.op](request) }
  } catch (/** @type {any} */ error) {
    answer = { error: failure(error) }
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}
