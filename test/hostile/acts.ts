/** What a random spec is about, and the calls that explain it and mount it. */
import { openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type Explanation,
  explain,
  explainBind,
  explainTmpfs,
  LayerStack,
  type Mount,
  Mounter,
  type RungChoice,
  rungs,
} from '../../lib/index.js'
import * as sys from '../../lib/sys.js'
import { mounts } from '../support/mountinfo.js'
import type { Scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'
import { manyLayers, type OverlaySpec, type Spec } from './spec.js'

/** Directories and mounters that all specs share. */
export interface Place {
  readonly area: Scratch
  readonly layers: readonly string[]
  /** the same on another file system */
  readonly others: readonly string[]
  readonly data: readonly string[]
  /** of the first layers */
  readonly fds: readonly number[]
  /** what is bound; `mountBelow` mounts on `below` in it */
  readonly source: string
  readonly mounters: ReadonlyMap<RungChoice, Mounter>
}

const firstLayers = 9

export const makePlace = (area: Scratch): Place => {
  const base = area.mkdir('other')
  sys.mount('other', base, 'tmpfs', [], null)
  const layers = area.layers(manyLayers)
  const source = area.mkdir('source')
  area.mkdir('source/below')
  const others = area.layers(firstLayers + 8, { base })
  const files = [join(source, 'each'), ...others.map((dir) => join(dir, 'other'))]
  for (const file of files) writeFileSync(file, '')
  return {
    area,
    layers,
    others,
    data: [0, 1].map((i) => area.mkdir(`data/${i}`)),
    fds: layers.slice(0, firstLayers).map((dir) => openSync(dir, 'r')),
    source,
    mounters: new Map(
      (['auto', ...rungs] as const).map((rung) => [rung, new Mounter({ rung, threads: 1, reapers: 2 })]),
    ),
  }
}

export const mountBelow = ({ source }: Place): void => {
  sys.mount('inner', join(source, 'below'), 'tmpfs', [], null)
  writeFileSync(join(source, 'below/inner'), '')
}

/** Whether it was still mounted; it is not any more. */
export const unmountBelow = ({ source }: Place): boolean => {
  const below = Buffer.from(join(source, 'below'))
  if (!mounts().some(({ target }) => target.equals(below))) return false
  sys.umount(below)
  return true
}

/** Gives back what `makePlace` took, but for the directories. */
export const leavePlace = async ({ area, fds, mounters }: Place): Promise<void> => {
  for (const mounter of mounters.values()) await mounter.close()
  for (const fd of fds) sys.close(fd)
  sys.umount(area.path('other'))
}

/** The layers that are meant, by their numbers, and whether the last of them lies on the other file system. */
export const layersOf = ({ first, count, isMixed }: OverlaySpec) => {
  const last = Math.min(first + count, manyLayers) - 1
  const numbers = Array.from({ length: last - first + 1 }, (_, i) => first + i)
  return { numbers, isMixed: isMixed && last < firstLayers + 8 }
}

export interface Acts {
  readonly explain: () => Explanation | Promise<Explanation>
  readonly mount: () => Mount | Promise<Mount>
  readonly close?: () => Promise<void>
}

const idmapOf = (first: number | undefined) => (first === undefined ? undefined : mapping(first))

function overlayActs(where: Place, { rung, isSync }: Spec, what: OverlaySpec, base: string, common: object) {
  const mounter = where.mounters.get(rung)!
  const { numbers, isMixed } = layersOf(what)
  const lowerdir = numbers.map((number, i) => {
    if (isMixed && i === numbers.length - 1) return where.others[number]!
    const dir = where.layers[number]!
    if (i > 0 || what.as === 'path') return dir
    return what.as === 'bytes' ? Buffer.from(dir) : where.fds[number]!
  })
  const stack = {
    lowerdir,
    datadir: what.data === 0 ? undefined : where.data.slice(0, what.data),
    idmap: idmapOf(what.idmap),
  }
  const mine: object = {
    ...common,
    ...(what.upper !== 'none' && { upperdir: join(base, 'upper') }),
    ...(what.upper === 'both' && { workdir: join(base, 'work') }),
    ...(what.upperMode && { upper: what.upperMode }),
    ...(what.checkUpper && { checkUpper: what.checkUpper }),
    ...(what.options && { options: what.options }),
  }
  if (!what.isStack) {
    const all = { ...stack, ...mine }
    return {
      explain: () => explain(all, { rung }),
      mount: () => (isSync ? mounter.mountSync(all) : mounter.mount(all)),
    }
  }
  const own = { ...mine, ...(what.own !== undefined && { idmap: idmapOf(what.own) }) }
  let opened: LayerStack | undefined
  const open = async () => {
    opened ??= isSync ? LayerStack.openSync(stack, { mounter }) : await LayerStack.open(stack, { mounter })
    return opened
  }
  return {
    explain: async () => (await open()).explain(own),
    mount: async () => {
      const layers = await open()
      return isSync ? layers.mountSync(own) : layers.mount(own)
    },
    close: async () => opened?.close(),
  }
}

/** @param base a directory for this spec alone */
export const actsOf = (where: Place, spec: Spec, base: string, target: Buffer | undefined): Acts => {
  const { rung, what, create, attributes, propagation, isSync } = spec
  const mounter = where.mounters.get(rung)!
  const common: object = {
    ...(target && { target }),
    ...(create !== undefined && { create }),
    ...(attributes && { attributes }),
    ...(propagation && { propagation }),
  }
  if (what.kind === 'overlay') return overlayActs(where, spec, what, base, common)
  if (what.kind === 'tmpfs') {
    const given = { ...common, options: { size: what.size, mode: what.mode } }
    return {
      explain: () => explainTmpfs(given, { rung }),
      mount: () => (isSync ? mounter.mountTmpfsSync(given) : mounter.mountTmpfs(given)),
    }
  }
  const given = {
    ...common,
    source: where.source,
    recursive: what.isRecursive,
    idmap: idmapOf(what.idmap),
  }
  return {
    explain: () => explainBind(given, { rung }),
    mount: () => (isSync ? mounter.mountBindSync(given) : mounter.mountBind(given)),
  }
}
