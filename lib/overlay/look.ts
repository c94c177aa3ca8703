/**
 * The first look at a stack's layers: what the caller gave, opened, and told from everything else.
 *
 *   directory   openat and statx, as the caller sees it; fstatfs of one on its own
 *   image       openat and statx of its files, which images.ts mounts then
 */
import { readlinkSync } from 'node:fs'
import { nameOf } from '../diagnose/causes.js'
import { errnoNumber } from '../errno.js'
import { MountError } from '../errors.js'
import type { Features } from '../host/features.js'
import * as c from '../program/calls.js'
import { renderCall } from '../program/explain.js'
import type { Flow } from '../program/flow.js'
import type { Outcome } from '../program/outcome.js'
import { cwd, held, type Plan, PlanBuilder } from '../program/plan.js'
import type { Pool } from '../program/pool.js'
import { identityOf } from '../program/result.js'
import { type Slot, type Step, statfsField, statxField } from '../program/step.js'
import type { Host } from './host.js'
import {
  imageKey,
  type LookedFile,
  lookAtImage,
  notRegular,
  ownerAndMode,
  type WantedImage,
} from './images.js'
import { directoryFlags, type TopAttributes } from './layers.js'
import { imageAt, layerSubject, type StackSpec } from './spec.js'
import { layerName, type Seen } from './trees.js'

/** The first look at the layers. */
export interface Look {
  readonly plan: Plan
  /** of each layer that is a directory: its fd and its statx */
  readonly directories: ReadonlyMap<number, { readonly slot: Slot; readonly report: Step }>
  /** of each layer that is an image, its files */
  readonly images: ReadonlyMap<number, readonly LookedFile[]>
  /** fstatfs of a layer on its own: mount(2) wants the flags of its mount repeated for a clone of it */
  readonly flags: Step | undefined
}

/** Plan of the first look at the layers. */
export function planLook(spec: StackSpec, features: Features): Look {
  const b = new PlanBuilder('open layers')
  const directories = new Map<number, { slot: Slot; report: Step }>()
  const images = new Map<number, readonly LookedFile[]>()
  for (const [i, layer] of spec.layers.entries()) {
    const subject = layerSubject(spec, i)
    if ('image' in layer) {
      images.set(i, lookAtImage(b, layer, subject))
      continue
    }
    const slot = b.output(b.slot(layerName(spec, i)))
    const flags = directoryFlags(features)
    const open =
      'path' in layer
        ? c.openat(slot, cwd, layer.path, flags, { subject })
        : c.openat(slot, held(layer.fd, layerName(spec, i)), '.', flags, { subject })
    const report = c.statxFd(slot, features.uniqueMountId, { report: true, subject })
    b.add(open, report)
    directories.set(i, { slot, report })
  }
  const alone = spec.layers.length === 1 && spec.idmap === undefined ? directories.get(0) : undefined
  const flags = alone && c.fstatfs(alone.slot, { report: true, subject: layerSubject(spec, 0) })
  if (flags) b.add(flags)
  return { plan: b.build(), directories, images, flags }
}

/** What the first look at the layers found: directories as they are seen, and images that are to be mounted. */
export interface Looked {
  /** by the index of the layer; none of an image */
  readonly seen: readonly (Seen | undefined)[]
  /** of the top layer, if it is no image */
  readonly top: Pick<TopAttributes, 'mode' | 'uid' | 'gid'> | undefined
  readonly images: readonly WantedImage[]
  /** of directories */
  readonly fds: readonly number[]
}

/** Opens what the caller gave, and looks at it. */
export function* lookAtLayers(host: Host, pool: Pool, spec: StackSpec): Flow<Looked> {
  const { plan, directories, images, flags } = planLook(spec, host.features)
  const looked = yield { plan, pool, abortable: true }
  const fds = new Map(plan.outputs.map((slot, i) => [slot, looked.outputs[i]!]))
  const refused = refusal(plan, directories.values(), images.values(), looked)
  if (refused) {
    host.discard({ fds: looked.outputs })
    throw refused
  }
  const statfs = flags && looked.report(flags)!
  const mountFlags = statfs && Number(statfs.readBigUInt64LE(statfsField.flags.offset))
  const seen: (Seen | undefined)[] = spec.layers.map((_, i) => {
    const directory = directories.get(i)
    if (directory === undefined) return undefined
    return {
      identity: identityOf(looked.report(directory.report)!),
      path: pathOf(spec, i),
      mountFlags,
      fd: held(fds.get(directory.slot)!, layerName(spec, i)),
    }
  })
  const first = directories.get(0)
  return {
    seen,
    top: first && ownerAndMode(looked.report(first.report)!),
    fds: [...directories.values()].map(({ slot }) => fds.get(slot)!),
    images: [...images].map(([layer, files]) => ({
      layer,
      files: files.map(({ slot, name }) => held(fds.get(slot)!, name)),
      key: imageKey(
        imageAt(spec, layer)!,
        files.map(({ report }) => looked.report(report)!),
      ),
    })),
  }
}

/** What was opened and cannot be a layer: a directory that was deleted, an image that is no file. */
function refusal(
  plan: Plan,
  directories: Iterable<{ readonly report: Step }>,
  images: Iterable<readonly LookedFile[]>,
  looked: Outcome,
): MountError | undefined {
  for (const { report } of directories) {
    if (isDeleted(looked.report(report)!)) return wasDeleted(report, plan.indexOf(report))
  }
  for (const files of images) {
    for (const file of files) {
      const error = notRegular(file, looked.report(file.report)!, plan.indexOf(file.open))
      if (error) return error
    }
  }
  return undefined
}

/** A directory without a name left, which an fd still refers to: as a layer it shows nothing, without an error. */
const isDeleted = (statx: Buffer) => statx.readUInt32LE(statxField.nlink.offset) === 0

function wasDeleted(step: Step, index: number): MountError {
  const subject = step.subject!
  return new MountError({
    errno: errnoNumber('ENOENT')!,
    syscall: step.call,
    call: renderCall(step),
    path: subject.path,
    hint: `${nameOf(subject)} was deleted`,
    step: index,
  })
}

function pathOf(spec: StackSpec, index: number): Buffer | undefined {
  const layer = spec.layers[index]!
  if ('image' in layer) return undefined
  if ('path' in layer) return layer.path
  try {
    const path = readlinkSync(`/proc/self/fd/${layer.fd}`, 'buffer')
    return path[0] === 0x2f ? path : undefined
  } catch {
    // without /proc the layer gets a tree of its own
    return undefined
  }
}
