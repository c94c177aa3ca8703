/**
 * What runs behind a filter: a process that does with the library what it is told, a line of JSON a request, and
 * answers with a line. The test that drives it is not filtered, and looks at what came of it.
 *
 *   begin, end                with a Mounter of its own
 *   mount, stack, bind, tmpfs, open     make the one mount that the others are about
 *   install                   a filter that node could not have been started behind
 *
 * @typedef {{ op: string } & Record<string, any>} Request
 */
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const [index, seccomp] = process.argv.slice(2)
const { features, LayerStack, Mounter, Rootfs } = await import(String(index))

/** @type {any} */
let mounter
/** @type {any} */
let stack
/** @type {any} */
let mount

const said = () => ({ rung: mount.rung, notes: mount.notes, path: mount.path, detached: mount.detached })

/** @type {Record<string, (request: Request) => any>} */
const operations = {
  features: () => ({ ...features() }),
  install: ({ filter }) => createRequire(import.meta.url)(String(seccomp)).install(filter),
  begin({ rung }) {
    mounter = new Mounter({ rung })
  },
  async mount({ options, sync }) {
    mount = sync ? mounter.mountSync(options) : await mounter.mount(options)
    return said()
  },
  async stack({ layers, options }) {
    stack = await LayerStack.open(layers, { mounter })
    mount = await stack.mount(options)
    return said()
  },
  async bind({ options }) {
    mount = await mounter.mountBind(options)
    return said()
  },
  async tmpfs({ options }) {
    mount = await mounter.mountTmpfs(options)
    return said()
  },
  async change({ attributes, superblock }) {
    if (attributes) await mount.setAttributes(attributes)
    if (superblock) await mount.reconfigure(superblock)
  },
  async attach({ target }) {
    await mount.attach(target)
    return said()
  },
  async open({ json }) {
    mount = await Rootfs.open(json, { mounter })
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
  async unmount() {
    await mount.unmount()
    mount = undefined
  },
  async end() {
    // what could not be unmounted
    mount?.release()
    await stack?.close()
    await mounter?.close()
    mounter = stack = mount = undefined
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
