/**
 * Mounts the images of a stack: an fs context of erofs for each, whose mount stays detached and is a layer by its fd.
 *
 *   look      openat (O_PATH) and statx of the file and its devices: the first look at the layers does it
 *   mount     fsopen, fsconfig source by the fd's name in /proc, options, CMD_CREATE, fsmount, statx of the root
 *
 * The source is the fd that was looked at, so what is mounted is what was looked at: regular files only, because
 * the kernel opens the source itself, and a pipe would hold it there.
 */
import { constants } from 'node:fs'
import { nameOf, pathOf } from '../diagnose/causes.js'
import { errnoNumber } from '../errno.js'
import { MountError } from '../errors.js'
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import * as c from '../program/calls.js'
import { renderCall } from '../program/explain.js'
import type { Flow } from '../program/flow.js'
import { cwd, held, type Plan, PlanBuilder } from '../program/plan.js'
import type { Pool } from '../program/pool.js'
import { identityOf } from '../program/result.js'
import { type HeldFd, type Slot, type Step, type Subject, statxField } from '../program/step.js'
import type { Host } from './host.js'
import type { ImageLease, OpenImage } from './image-cache.js'
import type { FileSource, ImageSpec } from './image-spec.js'
import { imageAt, layerSubject, type StackSpec } from './spec.js'

/** A file of an image, looked at: the image itself, or a device of it. */
export interface LookedFile {
  readonly slot: Slot
  readonly name: string
  readonly open: Step
  readonly report: Step
}

const nameOfFile = (file: FileSource) => ('path' in file ? file.path.toString('latin1') : `fd ${file.fd}`)

/** Steps that open an image's files and look at them; the image is the first. */
export function lookAtImage(b: PlanBuilder, image: ImageSpec, subject: Subject): LookedFile[] {
  return [image.image, ...image.devices].map((file, i) => {
    const path = 'path' in file ? file.path : nameOfFile(file)
    const about = i === 0 ? subject : { option: `${nameOf(subject)}.devices`, index: i - 1, path }
    const slot = b.output(b.slot(`file ${nameOfFile(file)}`))
    const source = 'path' in file ? file.path : ['/proc/self/fd/', held(file.fd, nameOfFile(file))]
    const open = c.openat(slot, cwd, source, f.O_PATH, { subject: about })
    const report = c.statxFile(slot, { report: true, subject: about })
    b.add(open, report)
    return { slot, name: nameOfFile(file), open, report }
  })
}

/** An image whose files are open. */
export interface WantedImage {
  readonly layer: number
  /** the image itself first */
  readonly files: readonly HeldFd[]
  readonly key: string
}

/** What tells an image from others, by the statx of its files. */
export function imageKey(image: ImageSpec, files: readonly Buffer[]): string {
  const numbers = files.map((statx) => {
    const { dev, ino, ctime, size } = statxField
    const fields = [dev, ino, ctime, size].map(({ offset }) => statx.readBigUInt64LE(offset))
    return [...fields, statx.readUInt32LE(statxField.ctimeNanoseconds.offset)].join(':')
  })
  const options = image.options.map(({ key, value }) => (value === undefined ? key : `${key}=${value}`))
  return [numbers.join('/'), ...options.sort()].join(',')
}

const { S_IFMT, S_IFREG, S_IFDIR } = constants

/** The error for a file that cannot be an image. */
export function notRegular({ open }: LookedFile, statx: Buffer, index: number): MountError | undefined {
  const type = statx.readUInt16LE(statxField.mode.offset) & S_IFMT
  if (type === S_IFREG) return undefined
  const subject = open.subject!
  const what = `${nameOf(subject)}${pathOf(subject)}`
  const hint =
    type === S_IFDIR
      ? `${what} is a directory, and an image is a file: a directory is a layer as it is`
      : `${what} is no regular file, as an image has to be: mount a device yourself`
  return new MountError({
    errno: errnoNumber(type === S_IFDIR ? 'EISDIR' : 'EINVAL')!,
    syscall: open.call,
    call: renderCall(open),
    path: subject.path,
    hint,
    step: index,
  })
}

export interface ImagesPlan {
  readonly plan: Plan
  /** of each image, in the order in which they were wanted */
  readonly mounts: readonly { readonly slot: Slot; readonly report: Step }[]
}

/** Plan that mounts images. */
export function planImages(
  spec: StackSpec,
  wanted: readonly Pick<WantedImage, 'layer' | 'files'>[],
  features: Features,
): ImagesPlan {
  const b = new PlanBuilder('mount images')
  b.note('each image is a superblock of its own: a clone of it for each mapping, a grace period when it ends')
  const fs = b.slot('fs')
  const mounts = wanted.map(({ layer, files }) => {
    const subject = layerSubject(spec, layer)
    const { options } = imageAt(spec, layer)!
    const [image, ...devices] = files
    b.add(c.fsopen(fs, 'erofs', { subject }))
    b.add(c.setString(fs, 'source', ['/proc/self/fd/', image!], { subject }))
    for (const device of devices) b.add(c.setString(fs, 'device', ['/proc/self/fd/', device], { subject }))
    for (const { key, value } of options) {
      b.add(value === undefined ? c.setFlag(fs, key, { subject }) : c.setString(fs, key, value, { subject }))
    }
    const slot = b.output(b.slot(`image ${image!.name}`))
    const report = c.statxFd(slot, features.uniqueMountId, { report: true, subject })
    b.add(c.create(fs, { subject }), c.fsmount(slot, fs, f.MOUNT_ATTR_RDONLY, { subject }))
    b.add(c.close(fs), report)
    return { slot, report }
  })
  return { plan: b.build(), mounts }
}

/** Mode and owner of a directory. */
export const ownerAndMode = (statx: Buffer): OpenImage['top'] => ({
  mode: statx.readUInt16LE(statxField.mode.offset),
  uid: statx.readUInt32LE(statxField.uid.offset),
  gid: statx.readUInt32LE(statxField.gid.offset),
})

/** Images that are mounted, by the index of their layer; what is mounted already is shared. Takes the files over. */
export function* openImages(
  host: Host,
  pool: Pool,
  spec: StackSpec,
  wanted: readonly WantedImage[],
): Flow<Map<number, ImageLease>> {
  const leases = new Map<number, ImageLease>()
  try {
    const missing = wanted.filter(({ layer, key }) => {
      const lease = host.images.lease(key)
      if (lease) leases.set(layer, lease)
      return lease === undefined
    })
    if (missing.length === 0) return leases
    const { plan, mounts } = planImages(spec, missing, host.features)
    const outcome = yield { plan, pool, abortable: true }
    for (const [i, { layer, key, files }] of missing.entries()) {
      const statx = outcome.report(mounts[i]!.report)!
      const fd = held(outcome.outputs[i]!, files[0]!.name)
      leases.set(layer, host.images.add(key, { fd, identity: identityOf(statx), top: ownerAndMode(statx) }))
    }
    return leases
  } catch (error) {
    for (const lease of leases.values()) lease.release(false)
    throw error
  } finally {
    host.discard({ fds: wanted.flatMap(({ files }) => files.map(({ fd }) => fd)) })
  }
}
