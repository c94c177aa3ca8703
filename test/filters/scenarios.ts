/**
 * What is asked of a filtered process, as data: requests, and how what came of them is looked at. Each is one mount
 * from its beginning to its unmount, and is seen from outside, by a process that is not filtered.
 */
import { chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { RungName } from '../../lib/index.js'
import type { Container as Other } from '../support/container.js'
import { fds, settled, threads } from '../support/counts.js'
import { isBelow, type Mount, mounts } from '../support/mountinfo.js'
import { tree } from '../support/rungs.js'
import type { Scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'
import { type Filtered, Refused } from './filtered.js'

/** Where a scenario takes place. */
export interface Stage {
  readonly area: Scratch
  readonly lowerdir: readonly string[]
  /** a container, to attach inside */
  readonly other: Other
  /** the layers as erofs images */
  readonly images: readonly { readonly image: string }[]
  /** a rootfs, or a bind, that was mounted by a process that has ended, and its JSON */
  readonly left: { readonly target: string; readonly json: string }
}

export type ScenarioName =
  | RungName
  | 'shared'
  | 'one layer'
  | 'one layer, shifted'
  | 'Sync'
  | 'Sync, shifted'
  | 'many'
  | 'images'
  | 'images, shifted'
  | 'attached inside'
  | 'taken over'
  | 'changed'
  | 'group'
  | 'moved'
  | 'opened'
  | 'plain'
  | 'shifted'
  | 'own mapping'
  | 'idmapped upper'
  | 'detached'
  | 'inside'
  | 'inside, idmapped'
  | 'bind'
  | 'tmpfs'
  | 'reconfigured'
  | 'open'
  | 'reconcile'

/** What a mount is, as it is seen from outside. */
export interface Seen {
  /** names, types, modes, owners, contents */
  readonly tree: Record<string, string>
  readonly type: string
  readonly attributes: readonly string[]
  readonly options: readonly string[]
  readonly source: string
  /** what writing through it leaves in the upper */
  readonly upper?: Record<string, string>
}

/** What came of it. */
export interface Result {
  readonly rung?: string | undefined
  readonly notes?: readonly string[] | undefined
  readonly seen?: Seen | undefined
}

export interface Scenario {
  readonly name: ScenarioName
  readonly rung?: RungName
  run(child: Filtered, stage: Stage): Promise<Result>
}

interface Said {
  readonly rung: string
  readonly notes: readonly string[]
  readonly path: string
}

/** Overlay names its layers as they were given: by path or by number. Which rung it was is not what is compared. */
const isOfRung = (option: string): boolean => /^(lowerdir|datadir|upperdir|workdir)\+?=/.test(option)

const look = (target: string, table: readonly Mount[], path = target): Seen => {
  const found = table.filter((mount) => mount.target.toString() === target).at(-1)
  if (found === undefined) throw new Error(`nothing is mounted at ${target}`)
  return {
    tree: tree(path),
    type: found.type,
    attributes: found.attributes,
    options: found.options.filter((option) => !isOfRung(option)),
    source: found.source.toString().replace(/\d+\/\d+@.*/, '…'),
  }
}

/** Files made by somebody, as a container's root would. */
const as = (id: number, body: () => void): void => {
  process.setegid?.(id)
  process.seteuid?.(id)
  try {
    body()
  } finally {
    process.seteuid?.(0)
    process.setegid?.(0)
  }
}

const write = (at: string, root: number): void =>
  as(root, () => {
    writeFileSync(join(at, 'new'), 'written')
    mkdirSync(join(at, 'made'))
    rmSync(join(at, 'only-3'))
    if (root === 0) chownSync(join(at, 'new'), 3, 4)
  })

/** `form`: how it is asked for, and unmounted */
const withUpper =
  (options: (stage: Stage) => object, root = 0, form: object = {}): Scenario['run'] =>
  async (child, stage) => {
    const at = stage.area.container('rootfs')
    const said = await child.ask<Said>('mount', {
      options: { lowerdir: stage.lowerdir, ...at, ...options(stage) },
      ...form,
    })
    const seen = look(at.target, mounts())
    write(at.target, root)
    await child.ask('unmount', form)
    return { rung: said.rung, notes: said.notes, seen: { ...seen, upper: tree(at.upperdir) } }
  }

const shift = 100_000
const idmap = mapping(shift)

const ownMapping: Scenario['run'] = async (child, { area, lowerdir }) => {
  const at = area.container('rootfs')
  const options = { ...at, idmap, upper: 'shifted' }
  const said = await child.ask<Said>('stack', { layers: { lowerdir }, options })
  const seen = look(at.target, mounts())
  write(at.target, shift)
  await child.ask('unmount')
  return { rung: said.rung, notes: said.notes, seen: { ...seen, upper: tree(at.upperdir) } }
}

const detached: Scenario['run'] = async (child, { area, lowerdir }) => {
  const { target, ...upper } = area.container('rootfs')
  const said = await child.ask<Said>('mount', { options: { lowerdir, ...upper } })
  const before = tree(said.path.replace('self', String(child.pid)))
  await child.ask('attach', { target })
  const seen = look(target, mounts())
  if (JSON.stringify(before) !== JSON.stringify(seen.tree)) throw new Error('attached, it is another tree')
  await child.ask('unmount')
  return { rung: said.rung, notes: said.notes, seen }
}

/** One layer, and no upper. */
const clone =
  (mapped: object): Scenario['run'] =>
  async (child, { area, lowerdir }) => {
    const { target } = area.container('rootfs')
    const said = await child.ask<Said>('mount', {
      options: { lowerdir: lowerdir.slice(-1), target, ...mapped },
    })
    const seen = look(target, mounts())
    await child.ask('unmount')
    return { rung: said.rung, notes: said.notes, seen }
  }

const attachedInside: Scenario['run'] = async (child, { area, lowerdir, other }) => {
  const { target: _, ...upper } = area.container('rootfs')
  const said = await child.ask<Said>('mount', { options: { lowerdir, ...upper } })
  await child.ask('attach', { target: { path: '/rootfs', mountNamespace: other.namespace } })
  const seen = look('/rootfs', other.mounts(), `/proc/${other.pid}/root/rootfs`)
  await child.ask('unmount')
  return { rung: said.rung, notes: said.notes, seen }
}

const takenOver: Scenario['run'] = async (child, { area, lowerdir }) => {
  const { target, ...upper } = area.container('rootfs')
  const said = await child.ask<Said>('take', { options: { lowerdir, ...upper } })
  await child.ask('attach', { target })
  const seen = look(target, mounts())
  await child.ask('unmount')
  return { rung: said.rung, notes: said.notes, seen }
}

const changed: Scenario['run'] = async (child, { area, lowerdir }) => {
  const at = area.container('rootfs')
  const said = await child.ask<Said>('mount', { options: { lowerdir, ...at } })
  const change = { attributes: { nosuid: true }, propagation: 'private' }
  await child.ask('change', change)
  const seen = look(at.target, mounts())
  await child.ask('unmount')
  return { rung: said.rung, notes: said.notes, seen }
}

const many: Scenario['run'] = async (child, { area, lowerdir }) => {
  const all = ['', '-2'].map((name) => area.container(`rootfs${name}`))
  const said = await child.ask<Said>('many', { layers: { lowerdir }, options: all })
  const [seen, second] = all.map(({ target }) => look(target, mounts()))
  if (JSON.stringify(seen) !== JSON.stringify(second)) throw new Error('two mounts, and they differ')
  await child.ask('unmount')
  return { rung: said.rung, notes: said.notes, seen }
}

const inGroup: Scenario['run'] = async (child, { area, lowerdir }) => {
  const { target, ...upper } = area.container('rootfs')
  const said = await child.ask<Said>('group', { target, name: 'one', options: { lowerdir, ...upper } })
  const seen = look(`${target}/one`, mounts())
  await child.ask('unmount')
  return { rung: said.rung, notes: said.notes, seen }
}

/** The tmpfs around it is private, since nothing is moved out of a shared parent. */
const moved: Scenario['run'] = async (child, { area, lowerdir: [source] }) => {
  const { target } = area.container('rootfs')
  const outer = { target, propagation: 'private', options: { mode: 0o755 } }
  const said = await child.ask<Said>('below', { outer, source, from: 'a/b', to: 'c' })
  const seen = look(`${target}/c`, mounts())
  if (mounts().some((each) => each.target.toString() === `${target}/a/b`)) throw new Error('not moved')
  await child.ask('unmount')
  return { rung: said.rung, notes: said.notes, seen }
}

const inside =
  (mapped: object): Scenario['run'] =>
  async (child, { area, lowerdir, other }) => {
    const { target: _, ...upper } = area.container('rootfs')
    const target = { path: '/rootfs', mountNamespace: other.namespace }
    const said = await child.ask<Said>('mount', { options: { lowerdir, ...upper, target, ...mapped } })
    const seen = look('/rootfs', other.mounts(), `/proc/${other.pid}/root/rootfs`)
    await child.ask('unmount')
    if (other.mounts().some(({ target }) => target.toString() === '/rootfs'))
      throw new Error('still mounted in the other namespace')
    return { rung: said.rung, notes: said.notes, seen }
  }

/** `change`: what is done to it before it is looked at */
const made =
  (op: 'bind' | 'tmpfs', options: (stage: Stage) => object, change: object): Scenario['run'] =>
  async (child, stage) => {
    const { target } = stage.area.container('rootfs')
    const said = await child.ask<Said>(op, { options: { target, ...options(stage) } })
    await child.ask('change', change)
    const seen = look(target, mounts())
    await child.ask('unmount')
    return { rung: said.rung, notes: said.notes, seen }
  }

const open =
  (kind: 'rootfs' | 'mount'): Scenario['run'] =>
  async (child, { left: { json, target } }) => {
    const said = await child.ask<Said>('open', { json, kind })
    const seen = look(target, mounts())
    await child.ask('unmount')
    return { rung: said.rung, notes: said.notes, seen }
  }

const reconcile: Scenario['run'] = async (child, { left: { target } }) => {
  const found = await child.ask<{ target: string; isUnmounted: boolean; error?: { message: string } }[]>(
    'reconcile',
    { dir: target },
  )
  const [one] = found
  if (found.length !== 1 || one?.target !== target) throw new Error(`found ${JSON.stringify(found)}`)
  if (one.error) throw new Refused({ name: 'Error', message: `not unmounted: ${one.error.message}` })
  if (!one.isUnmounted) throw new Error('its owner is taken to be alive')
  return {}
}

const forced = (rung: RungName, mapped = {}): Scenario => ({
  name: rung,
  rung,
  run: withUpper(() => mapped, 'idmap' in mapped ? shift : 0),
})

const shifted = { idmap, upper: 'shifted' }

export const scenarios: readonly Scenario[] = [
  { name: 'plain', run: withUpper(() => ({})) },
  { name: 'shifted', run: withUpper(() => shifted, shift) },
  { name: 'own mapping', run: ownMapping },
  { name: 'idmapped upper', run: inIdmapped() },
  { name: 'detached', run: detached },
  { name: 'inside', run: inside({}) },
  { name: 'inside, idmapped', run: inside(shifted) },
  {
    name: 'bind',
    run: made('bind', ({ lowerdir: [source] }) => ({ source }), { attributes: { noexec: true } }),
  },
  { name: 'tmpfs', run: made('tmpfs', smallTmpfs, { attributes: { nosuid: true } }) },
  { name: 'reconfigured', run: made('tmpfs', smallTmpfs, { superblock: { size: 2 ** 21 } }) },
  { name: 'changed', run: changed },
  { name: 'moved', run: moved },
  { name: 'shared', run: withUpper(() => ({ propagation: 'shared' })) },
  { name: 'one layer', run: clone({}) },
  { name: 'one layer, shifted', run: clone({ idmap }) },
  { name: 'Sync', run: withUpper(() => ({}), 0, { sync: true, way: { lazy: false } }) },
  { name: 'Sync, shifted', run: withUpper(() => shifted, shift, { sync: true, way: { wait: 'teardown' } }) },
  { name: 'many', run: many },
  { name: 'images', run: withUpper(({ images: lowerdir }) => ({ lowerdir })) },
  { name: 'images, shifted', run: withUpper(({ images: lowerdir }) => ({ lowerdir, ...shifted }), shift) },
  { name: 'attached inside', run: attachedInside },
  { name: 'taken over', run: takenOver },
  { name: 'group', run: inGroup },
  { name: 'open', run: open('rootfs') },
  { name: 'opened', run: open('mount') },
  { name: 'reconcile', run: reconcile },
  forced('detached-tree', shifted),
  forced('direct'),
  forced('staged', shifted),
  forced('staged-classic', shifted),
  forced('classic'),
]

function smallTmpfs(): object {
  return { options: { mode: 0o700, size: 2 ** 20 } }
}

/** Ids on disk are those inside: nobody here can write through it. */
function inIdmapped(): Scenario['run'] {
  return async (child, { area, lowerdir }) => {
    const at = area.container('rootfs')
    const options = { lowerdir, ...at, idmap, upper: 'idmapped' }
    const said = await child.ask<Said>('mount', { options })
    const seen = look(at.target, mounts())
    await child.ask('unmount')
    return { rung: said.rung, notes: said.notes, seen }
  }
}

/** Fds that Node opens when it likes, and what waits a second for the next call: inotify. */
const besides = /^(anon_inode:(\[(eventpoll|eventfd|io_uring|pidfd)\]|inotify)|pipe:|socket:)/

const held = (pid: number): string[] => [...fds(pid)].filter(([, link]) => !besides.test(link)).map(String)
const owned = (pid: number): string[] => [...threads(pid).values()].filter((name) => name.startsWith('ofd-'))

/** Remembers what a process holds and what is mounted; the function that it answers tells what has come since. */
export const watchChild = (child: Filtered, stage: Stage): (() => Promise<string[]>) => {
  const before = new Set(held(child.pid))
  const isOther = (mount: Mount): boolean =>
    isBelow(mount, stage.area.path('containers/rootfs')) || mount.target.toString() === '/rootfs'
  return () =>
    settled(
      () => [
        ...held(child.pid).filter((fd) => !before.has(fd)),
        ...owned(child.pid),
        ...[...mounts(), ...stage.other.mounts()]
          .filter(isOther)
          .map(({ type, target }) => `${type} at ${target.toString()}`),
      ],
      (left) => left.length === 0,
    )
}
