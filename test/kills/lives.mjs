/**
 * What a process does between its first call and its last, as data: the lives that the sweep cuts short after each
 * call, and that the next process then leads to their end in the same place.
 *
 * Each prepares what is not to be swept and answers the rest as a function, which calls `made` with every handle whose
 * mount can be seen. Plain JavaScript, for it is loaded by the program that is killed (program.mjs, over dist/) and
 * by the tests (over lib/).
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

/** Everything of a rootfs; `index: 'on'` has the kernel refuse an upper that a lost superblock still has. */
const container = ({ base }, name = 'c') => ({
  upperdir: join(base, name, 'upper'),
  workdir: join(base, name, 'work'),
  target: join(base, name, 'rootfs'),
  create: true,
  options: { index: 'on' },
  attributes: { nodev: true },
})

/** Where each life mounts, below `base`. */
export const targets = {
  mount: ['c/rootfs'],
  'own mapping': ['c/rootfs'],
  move: ['c/rootfs', 'c/moved'],
  detached: ['c/rootfs'],
  many: ['a/rootfs', 'b/rootfs'],
  group: ['group', 'group/a', 'group/b'],
  inside: ['c/rootfs'],
  'leave inside': ['c/rootfs'],
  bind: ['c'],
  tmpfs: ['c'],
}

const inside = ({ namespace, idmap, ...place }, name) => {
  const { target, ...options } = container(place, name)
  return { ...options, target: { path: target, mountNamespace: namespace } }
}

/**
 * A stack, and the threads that visit other namespaces, of which one does each visit: so each life that is swept has one
 * visit, and the threads are there before.
 */
const visited = async ({ mounter, place }) => {
  const stack = await mounter.open({ lowerdir: place.lowerdir, idmap: place.idmap })
  const first = await stack.mount(inside(place, 'a'))
  await first.unmount()
  await mounter.idle()
  return stack
}

/** @type {import('./lives.mjs').lives} */
export const lives = {
  async mount({ mounter, place, made }) {
    const { lowerdir, idmap } = place
    return async () => {
      const rootfs = await mounter.mount({ ...container(place), lowerdir, idmap })
      await made(rootfs)
      await rootfs.unmount()
      await mounter.trim()
    }
  },
  async 'own mapping'({ mounter, place, made }) {
    const { lowerdir, idmap, other } = place
    const stack = await mounter.open({ lowerdir, idmap })
    return async () => {
      const rootfs = await stack.mount({ ...container(place), idmap: other })
      await made(rootfs)
      await rootfs.unmount()
      await stack.close()
      await mounter.trim()
    }
  },
  async move({ mounter, place, made }) {
    const { lowerdir, idmap } = place
    const moved = join(place.base, 'c/moved')
    mkdirSync(moved, { recursive: true })
    const stack = await mounter.open({ lowerdir, idmap })
    const rootfs = await stack.mount(container(place))
    return async () => {
      await rootfs.moveTo(moved)
      await made(rootfs)
      await rootfs.unmount()
      await stack.close()
      await mounter.trim()
    }
  },
  async detached({ mounter, place, made }) {
    const { lowerdir, idmap } = place
    mkdirSync(container(place).target, { recursive: true })
    const stack = await mounter.open({ lowerdir, idmap })
    return async () => {
      const { target, ...options } = container(place)
      const rootfs = await stack.mount({ ...options })
      await rootfs.attach(target)
      await made(rootfs)
      await rootfs.unmount()
      await stack.close()
      await mounter.trim()
    }
  },
  async many({ mounter, place, made }) {
    const { lowerdir, idmap } = place
    const stack = await mounter.open({ lowerdir, idmap })
    return async () => {
      const all = await stack.mountMany(['a', 'b'].map((name) => container(place, name)))
      for (const rootfs of all) await made(rootfs)
      for (const rootfs of all) await rootfs.unmount()
      await stack.close()
      await mounter.trim()
    }
  },
  async group({ mounter, place, made }) {
    const { lowerdir, idmap } = place
    const stack = await mounter.open({ lowerdir, idmap })
    return async () => {
      const group = await mounter.openGroup(join(place.base, 'group'))
      for (const name of ['a', 'b']) {
        const options = { ...container(place, name), target: group.target(name) }
        await made(await stack.mount({ ...options }))
      }
      await group.unmount()
      await stack.close()
      await mounter.trim()
    }
  },
  async inside(stay) {
    const stack = await visited(stay)
    return async () => {
      const rootfs = await stack.mount(inside(stay.place, 'c'))
      await stay.made(rootfs)
      await rootfs.release()
      await stack.close()
      await stay.mounter.trim()
    }
  },
  async 'leave inside'(stay) {
    const stack = await visited(stay)
    const rootfs = await stack.mount(inside(stay.place, 'c'))
    return async () => {
      await stay.made(rootfs)
      await rootfs.unmount()
      await stack.close()
      await stay.mounter.trim()
    }
  },
  async bind({ mounter, place, made }) {
    const { lowerdir, idmap } = place
    return async () => {
      const attributes = { readonly: true }
      const bind = await mounter.mountBind({
        source: lowerdir[0],
        target: join(place.base, 'c'),
        attributes,
        idmap,
      })
      await made(bind)
      await bind.unmount()
      await mounter.trim()
    }
  },
  async tmpfs({ mounter, place, made }) {
    return async () => {
      const tmpfs = await mounter.mountTmpfs({ target: join(place.base, 'c'), options: { mode: 0o700 } })
      await made(tmpfs)
      await tmpfs.unmount()
      await mounter.trim()
    }
  },
}
