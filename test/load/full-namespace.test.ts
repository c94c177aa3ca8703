/**
 * A mount namespace that holds fs.mount-max mounts. Each operation is done with no place free, with one, with two, until
 * it goes well. Until then it is one ENOSPC that says so, exactly as many places are free as before, and then it is done.
 *
 * The limit is everybody's, so it is not lowered: a namespace is filled by binds that double what is there, the test's
 * own, a container's, or one that mounts are copied to.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, openSync, readdirSync, rmSync } from 'node:fs'
import t, { type Test } from 'tap'
import { CLONE_FS, CLONE_NEWNS, flag, MNT_DETACH, MS_BIND, MS_REC } from '../../lib/flags.js'
import { Mounter, type Rootfs } from '../../lib/index.js'
import { isStaged } from '../../lib/overlay/choose.js'
import { mount, setns, umount, unshare } from '../../lib/sys.js'
import { startContainer } from '../support/container.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { type Form, forms, type Way, ways } from '../support/rungs.js'
import { read, type Scratch, scratch } from '../support/scratch.js'

const recursive = flag<'MS'>(MS_BIND | MS_REC)

/** Binds; false if there was no place for it. */
const bind = (source: string, target: string): boolean => {
  mkdirSync(target, { recursive: true })
  try {
    mount(source, target, null, recursive, null)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return false
    throw error
  }
}

interface Places {
  leave(free: number): void
  /** how many are free */
  free(): number
}

const most = 8

/** Fills the caller's mount namespace. */
const fill = (base: string): Places => {
  mount('fill', base, 'tmpfs', 0, null)
  const one = `${base}/one`
  mkdirSync(one)
  const single = (i: number) => `${base}/single/${i}`
  for (let i = 0; i < most; i++) bind(one, single(i))
  const tree = `${base}/tree`
  mkdirSync(tree)
  bind(tree, tree)
  let doubled = 0
  while (bind(tree, `${tree}/${doubled}`)) doubled++
  // what is missing is less than that tree: its parts are powers of two
  for (let i = doubled - 1; i >= 0; i--) bind(`${tree}/${i}`, `${base}/rest/${i}`)
  let taken = most
  const take = (): boolean => {
    if (taken < most && bind(one, single(taken))) {
      taken++
      return true
    }
    return false
  }
  return {
    leave(free) {
      while (take());
      for (; taken > most - free; taken--) umount(single(taken - 1), MNT_DETACH)
    },
    free() {
      const before = taken
      while (take());
      const free = taken - before
      for (; taken > before; taken--) umount(single(taken - 1), MNT_DETACH)
      return free
    },
  }
}

/** Fills another mount namespace, at a directory of it. */
const fillThere = (pid: number, base: string): Places => {
  // who shares a working directory with others cannot go there
  unshare(CLONE_FS)
  const home = openSync('/proc/thread-self/ns/mnt', 'r')
  const there = openSync(`/proc/${pid}/ns/mnt`, 'r')
  const inside = <T>(run: () => T): T => {
    const before = process.cwd()
    setns(there, CLONE_NEWNS)
    try {
      return run()
    } finally {
      setns(home, CLONE_NEWNS)
      process.chdir(before)
    }
  }
  const places = inside(() => fill(base))
  return { leave: (free) => inside(() => places.leave(free)), free: () => inside(() => places.free()) }
}

/** What was made is given back by `close`, the last first. */
type Keep = <T extends { unmount(): Promise<void> }>(made: T) => T

interface Operation {
  readonly name: string
  /** how many places it takes */
  readonly places: number
  /** how many of them it keeps when it fails */
  readonly kept?: number
  prepare?(mounter: Mounter, keep: Keep): Promise<unknown>
  /** answers where the layers are to be seen */
  run(mounter: Mounter, keep: Keep, prepared: never): Promise<string | undefined>
}

const hint = /^the mount namespace, or one that its mounts are copied to, is full \(fs\.mount-max, \d+\)/

const sweep = async (t: Test, mounter: Mounter, places: Places, operation: Operation): Promise<void> => {
  const problems: string[] = []
  let free = 0
  for (let isDone = false; !isDone && free < most && problems.length === 0; free++) {
    const made: { unmount(): Promise<void> }[] = []
    const keep: Keep = (each) => {
      made.push(each)
      return each
    }
    places.leave(most)
    const prepared = await operation.prepare?.(mounter, keep)
    await mounter.idle()
    places.leave(free)
    try {
      const path = await operation.run(mounter, keep, prepared as never)
      isDone = true
      if (path !== undefined && read(path, 'each')[0] !== 'layer 0') problems.push(`${path} shows no layers`)
    } catch (error) {
      const { code, hint: found } = error as { code: string; hint?: string }
      if (code !== 'ENOSPC' || !hint.test(found ?? '')) problems.push(String((error as Error).stack))
      await mounter.idle()
      // what it has made in vain it has taken away
      const now = places.free() + (operation.kept ?? 0)
      if (now !== free) problems.push(`${free} places were free, and now ${now} are`)
    }
    for (const each of made.reverse()) await each.unmount()
    await mounter.trim()
  }
  t.same(problems, [], `${operation.name}, ${free - 1} free`)
  t.equal(free - 1, operation.places, `${operation.name}: so many it takes`)
}

const operations = (area: Scratch, { rung, idmap }: Way, form: Form): Operation[] => {
  const lowerdir = area.layers(2)
  const { upperdir, workdir, target } = area.container('c')
  const upper = { upperdir, workdir }
  const fresh = area.mkdir('fresh')
  const made = { upperdir: `${fresh}/upper`, workdir: `${fresh}/work`, target: `${fresh}/rootfs` }
  // it is made in a copy of the namespace, which is as full
  const staging = isStaged(rung) ? 1 : 0
  const list: Operation[] = [
    {
      name: 'mount',
      places: 1,
      run: async (mounter, keep) =>
        keep(await form.mount(mounter, { lowerdir, idmap, ...upper, target })).path,
    },
    {
      name: 'create',
      places: 1,
      run: async (mounter, keep) => {
        for (const dir of readdirSync(fresh)) rmSync(`${fresh}/${dir}`, { recursive: true })
        try {
          return keep(await form.mount(mounter, { lowerdir, idmap, ...made, create: true })).path
        } catch (error) {
          if (readdirSync(fresh).length > 0) throw new Error(`left: ${readdirSync(fresh)}`)
          throw error
        }
      },
    },
    {
      name: 'group',
      places: 2,
      kept: 0,
      async run(mounter, keep) {
        const group = await mounter.openGroup(target)
        try {
          const inside = group.target('a')
          const path = keep(await form.mount(mounter, { lowerdir, idmap, ...upper, target: inside })).path
          keep(group)
          return path
        } catch (error) {
          await group.unmount()
          throw error
        }
      },
    },
  ]
  if (rung !== 'classic') {
    list.push({
      name: 'detached',
      places: staging,
      run: async (mounter, keep) => keep(await form.mount(mounter, { lowerdir, idmap, ...upper })).path,
    })
    list.push({
      name: 'attach, and the rootfs stays as it was',
      places: 1,
      prepare: async (mounter, keep) => keep(await form.mount(mounter, { lowerdir, idmap, ...upper })),
      async run(_mounter, _keep, rootfs: Rootfs) {
        try {
          await form.attach(rootfs, target)
        } catch (error) {
          if (read(rootfs.path, 'each')[0] !== 'layer 0') throw new Error('it is not usable any more')
          throw error
        }
        return target
      },
    })
  }
  if (rung === 'direct') {
    list.push({
      name: 'attach with a mount in it',
      places: 2,
      prepare: async (mounter, keep) => {
        const rootfs = keep(await form.mount(mounter, { lowerdir, ...upper }))
        await mounter.mountTmpfs({ target: { mount: rootfs, path: 'dir' } })
        return rootfs
      },
      async run(_mounter, _keep, rootfs: Rootfs) {
        await form.attach(rootfs, target)
        return target
      },
    })
  }
  if (!isStaged(rung)) {
    const source = lowerdir[0]!
    list.push({
      name: 'bind',
      places: 1,
      run: async (mounter, keep) => keep(await mounter.mountBind({ source, target })).path,
    })
    list.push({
      name: 'tmpfs',
      places: 1,
      async run(mounter, keep) {
        keep(await mounter.mountTmpfs({ target }))
        return undefined
      },
    })
  }
  return list.map((each) => ({ ...each, name: `${form.name}: ${each.name}` }))
}

for (const way of ways) {
  t.test(way.rung, privileged, async (t) => {
    const area = scratch(t)
    // where the CPUs are is found in the table of mounts: now it is short
    const mounter = new Mounter({ rung: way.rung, threads: 1, reapers: 1 })
    const places = fill(area.mkdir('fill'))
    for (const form of forms) {
      for (const operation of operations(area, way, form)) await sweep(t, mounter, places, operation)
    }
    await mounter.close()
    umount(area.path('fill'), MNT_DETACH)
  })
}

t.test('a recursive bind of more than there is room for', privileged, async (t) => {
  const area = scratch(t)
  const places = fill(area.mkdir('fill'))
  places.leave(5)
  const mounter = new Mounter({ threads: 1, reapers: 1 })
  const big = { source: area.path('fill/tree'), recursive: true, target: area.mkdir('target') }
  await t.rejects(mounter.mountBind(big), { code: 'ENOSPC', hint })
  t.throws(() => mounter.mountBindSync(big), { code: 'ENOSPC', hint })
  t.equal(places.free(), 5, 'nothing is left of it')
  await mounter.close()
  umount(area.path('fill'), MNT_DETACH)
})

t.test("a container's namespace is full", privileged, async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  const lowerdir = area.layers(2)
  const { upperdir, workdir } = area.container('c')
  const target = { path: '/rootfs', mountNamespace: container.namespace }
  const places = fillThere(container.pid, '/tmp')
  for (const { rung, idmap } of ways.filter(({ rung }) => rung !== 'classic')) {
    const mounter = new Mounter({ rung, threads: 1, reapers: 1 })
    for (const form of forms) {
      places.leave(0)
      const left = watch()
      const options = { lowerdir, idmap, upperdir, workdir }
      const what = `${rung}, ${form.name}`
      await t.rejects(form.mount(mounter, { ...options, target }), { code: 'ENOSPC', hint }, what)
      const rootfs = await form.mount(mounter, options)
      await t.rejects(form.attach(rootfs, target), { code: 'ENOSPC', hint }, 'attach')
      t.same(read(rootfs.path, 'each'), ['layer 0'], 'the detached one is as it was')
      places.leave(1)
      t.equal(places.free(), 1, 'nothing else was there')
      await form.attach(rootfs, target)
      t.equal(places.free(), 0, 'it takes one place')
      await form.unmount(rootfs)
      await (await form.mount(mounter, { ...options, target })).unmount()
      t.equal(places.free(), 1, 'and gives it back')
      await mounter.trim()
      t.same(await left(), [])
    }
    await mounter.close()
  }
})

t.test('a namespace that mounts are copied to is full', privileged, async (t) => {
  const area = scratch(t)
  const shared = area.mkdir('shared')
  execFileSync('mount', ['-n', '-t', 'tmpfs', 'shared', shared])
  execFileSync('mount', ['-n', '--make-shared', shared])
  const peer = spawn('unshare', ['-m', '--propagation', 'unchanged', 'sh', '-c', 'echo ready; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(peer.stdout, 'data')
  const places = fillThere(peer.pid as number, area.mkdir('fill'))
  const mounted = () => mounts().some((each) => isBelow(each, `${shared}/rootfs`))
  for (const { rung, idmap } of ways) {
    const mounter = new Mounter({ rung, threads: 1, reapers: 1 })
    const options = { lowerdir: area.layers(2), idmap, target: area.mkdir('shared/rootfs') }
    const { upperdir, workdir } = area.container('c')
    for (const form of forms) {
      places.leave(0)
      await t.rejects(form.mount(mounter, { ...options, upperdir, workdir }), { code: 'ENOSPC', hint }, rung)
      t.notOk(mounted(), 'nor is it mounted here')
      places.leave(1)
      t.equal(places.free(), 1, 'nothing else was there')
      const rootfs = await form.mount(mounter, { ...options, upperdir, workdir })
      t.ok(mounted())
      t.equal(places.free(), 0, 'its copy takes a place')
      await form.unmount(rootfs)
      t.equal(places.free(), 1)
    }
    await mounter.close()
  }
  const ended = once(peer, 'exit')
  peer.kill('SIGKILL')
  await ended
  execFileSync('umount', ['-n', shared])
})
