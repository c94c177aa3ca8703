/**
 * Too few open files (RLIMIT_NOFILE): each operation is done with no fd free, with one, with two, until it goes well. Until
 * then it is one EMFILE that says so, nothing is left, and with fds free again the same mounter does it.
 */
import { rmSync } from 'node:fs'
import t, { type Test } from 'tap'
import type { LayerStack, Mounter, Rootfs } from '../../lib/index.js'
import { Mounter as AnyMounter, MountGroup } from '../../lib/index.js'
import { isStaged } from '../../lib/overlay/choose.js'
import { type Container, startContainer } from '../support/container.js'
import { watch } from '../support/left.js'
import { all, privileged, programs } from '../support/needs.js'
import { type Form, forms, type Way, ways } from '../support/rungs.js'
import { read, type Scratch, scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'
import { freeAll, leaveFree } from './open-files.js'

/** What was made is given back by `close`, the last first, when fds are free again. */
type Keep = <T>(made: T, close: (made: T) => Promise<void> | void) => T

interface Operation {
  readonly name: string
  /** what is there before fds become few */
  prepare?(mounter: Mounter, keep: Keep): Promise<unknown>
  /** answers where the layers are to be seen, when fds are free again */
  run(mounter: Mounter, keep: Keep, prepared: never): Promise<string | undefined>
}

const hint = /^too many open files in this process: .*\(ulimit -n/
/** More than any of them takes. */
const enough = 60

/** What is wrong with an error for want of fds. */
const wrongWith = (error: unknown): string[] => {
  const { code, hint: found, call } = error as { code?: string; hint?: string; call?: string }
  const isRight = code === 'EMFILE' && call !== undefined && hint.test(found ?? '')
  return isRight ? [] : [error instanceof Error ? (error.stack ?? error.message) : String(error)]
}

/** The operation once, with so many fds free; what it has made is given back when all are. */
const attempt = async (operation: Operation, mounter: Mounter, free?: number): Promise<unknown> => {
  const closers: (() => Promise<void> | void)[] = []
  const keep: Keep = (made, close) => {
    closers.push(() => close(made))
    return made
  }
  let failure: unknown
  try {
    const prepared = await operation.prepare?.(mounter, keep)
    await mounter.idle()
    if (free !== undefined) leaveFree(free)
    const path = await operation.run(mounter, keep, prepared as never)
    freeAll()
    if (path !== undefined && read(path, 'each')[0] !== 'layer 0') throw new Error(`${path} shows no layers`)
  } catch (error) {
    failure = error
  }
  freeAll()
  for (const close of closers.reverse()) await close()
  return failure
}

/** Answers with how many fds free it went well. */
const sweep = async (t: Test, way: Way, operation: Operation): Promise<void> => {
  const options = { rung: way.rung, threads: 1, reapers: 1 }
  const problems: string[] = []
  let free = 0
  for (let isDone = false; !isDone && free < enough && problems.length === 0; free++) {
    const left = watch()
    const mounter = new AnyMounter(options)
    const error = await attempt(operation, mounter, free)
    isDone = error === undefined
    if (!isDone) problems.push(...wrongWith(error))
    await mounter.trim()
    problems.push(...(await left()))
    const again = await attempt(operation, mounter)
    if (again !== undefined) problems.push(`not even with all fds free: ${again}`)
    await mounter.close()
    problems.push(...(await left({ threads: true })))
  }
  t.same(problems, [], `${operation.name}, ${free - 1} free`)
  t.ok(free < enough, `${operation.name}: ${free - 1} are enough`)
}

const unmount = (made: { unmount(): Promise<void> }): Promise<void> => made.unmount()

const operations = (area: Scratch, way: Way, form: Form, container: Container): Operation[] => {
  const { rung, idmap } = way
  const lowerdir = area.layers(3)
  const upper = area.container('one')
  const { upperdir, workdir, target } = upper
  const fresh = area.mkdir('fresh')
  const made = { upperdir: `${fresh}/upper`, workdir: `${fresh}/work`, target: `${fresh}/rootfs` }
  const list: Operation[] = [
    {
      name: 'mount',
      run: async (mounter, keep) =>
        keep(await form.mount(mounter, { lowerdir, idmap, ...upper }), unmount).path,
    },
    {
      name: 'create',
      async prepare() {
        for (const dir of Object.values(made)) rmSync(dir, { recursive: true, force: true })
      },
      run: async (mounter, keep) =>
        keep(await form.mount(mounter, { lowerdir, idmap, ...made, create: true }), unmount).path,
    },
    {
      name: 'stack and mount',
      async run(mounter, keep) {
        const stack = keep(await form.open(mounter, { lowerdir, idmap }), (made) => made.close())
        return keep(await form.stackMount(stack, upper), unmount).path
      },
    },
    {
      name: 'mount of a stack',
      prepare: async (mounter, keep) =>
        keep(await form.open(mounter, { lowerdir, idmap }), (made) => made.close()),
      run: async (_mounter, keep, stack: LayerStack) =>
        keep(await form.stackMount(stack, upper), unmount).path,
    },
    {
      name: 'unmount',
      prepare: async (mounter, keep) =>
        keep(await form.mount(mounter, { lowerdir, idmap, ...upper }), unmount),
      async run(_mounter, _keep, rootfs: Rootfs) {
        await form.unmount(rootfs)
        return undefined
      },
    },
    {
      name: 'group',
      async run(mounter, keep) {
        const group = keep(await MountGroup.open(target, { mounter }), unmount)
        const inside = { lowerdir, idmap, target: group.target('a') }
        return keep(await form.mount(mounter, inside), unmount).path
      },
    },
  ]
  if (idmap) {
    list.push({
      name: 'a mapping of its own',
      prepare: async (mounter, keep) =>
        keep(await form.open(mounter, { lowerdir, idmap }), (made) => made.close()),
      run: async (_mounter, keep, stack: LayerStack) =>
        keep(await form.stackMount(stack, { ...upper, idmap: mapping(300_000) }), unmount).path,
    })
  }
  if (rung !== 'classic') {
    list.push({
      name: 'detached',
      run: async (mounter, keep) =>
        keep(await form.mount(mounter, { lowerdir, idmap, upperdir, workdir }), unmount).path,
    })
    list.push({
      name: 'attach',
      prepare: async (mounter, keep) =>
        keep(await form.mount(mounter, { lowerdir, idmap, upperdir, workdir }), unmount),
      async run(_mounter, _keep, rootfs: Rootfs) {
        await form.attach(rootfs, target)
        return target
      },
    })
    list.push({
      name: 'inside a namespace',
      async run(mounter, keep) {
        const there = { path: '/rootfs', mountNamespace: container.namespace }
        keep(await form.mount(mounter, { lowerdir, idmap, upperdir, workdir, target: there }), unmount)
        return undefined
      },
    })
    list.push({
      name: 'unmount inside a namespace',
      prepare: async (mounter, keep) => {
        const there = { path: '/rootfs', mountNamespace: container.namespace }
        return keep(await form.mount(mounter, { lowerdir, idmap, target: there }), unmount)
      },
      async run(_mounter, _keep, rootfs: Rootfs) {
        await form.unmount(rootfs)
        return undefined
      },
    })
  }
  // what has nothing to do with layers is by fd, or by mount(2)
  if (!isStaged(rung)) {
    const source = lowerdir[0]!
    const isSync = form.name === 'Sync'
    list.push({
      name: 'bind',
      run: async (mounter, keep) =>
        keep(
          isSync ? mounter.mountBindSync({ source, target }) : await mounter.mountBind({ source, target }),
          unmount,
        ).path,
    })
    list.push({
      name: 'tmpfs and its changes',
      async run(mounter, keep) {
        const options = { target, options: { mode: 0o700 } }
        const tmpfs = keep(
          isSync ? mounter.mountTmpfsSync(options) : await mounter.mountTmpfs(options),
          unmount,
        )
        await tmpfs.setAttributes({ nosuid: true })
        await tmpfs.setPropagation('private')
        await tmpfs.reconfigure({ size: 1 << 20 })
        return undefined
      },
    })
    list.push({
      name: 'opened again',
      prepare: async (mounter, keep) => {
        const rootfs = await mounter.mount({ lowerdir, idmap, target })
        keep(rootfs, (made) => (made.path === target ? made.unmount() : undefined))
        return rootfs
      },
      async run(mounter, _keep, rootfs: Rootfs) {
        const json = JSON.parse(JSON.stringify(rootfs))
        const again = isSync ? mounter.openRootfsSync(json) : await mounter.openRootfs(json)
        again.release()
        return target
      },
    })
    list.push({
      name: 'reconcile',
      prepare: async (mounter, keep) => keep(await mounter.mount({ lowerdir, idmap, target }), unmount),
      async run(mounter) {
        const found = isSync ? mounter.reconcileSync(area.dir) : await mounter.reconcile(area.dir)
        if (found.length > 0) throw new Error(`found ${found[0]?.target}`)
        return target
      },
    })
  }
  return list.map((each) => ({ ...each, name: `${form.name}: ${each.name}` }))
}

for (const way of ways) {
  t.test(way.rung, all(privileged, programs('prlimit')), async (t) => {
    const area = scratch(t)
    const container = await startContainer(t)
    for (const form of forms) {
      for (const operation of operations(area, way, form, container)) await sweep(t, way, operation)
    }
  })
}
