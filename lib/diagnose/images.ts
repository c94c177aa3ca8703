/**
 * Causes of an image that cannot be mounted. The kernel says why only in dmesg, so the image's superblock is looked
 * at: its magic number tells an image that is broken from a file that is none.
 */
import { closeSync, constants, openSync, readSync, statSync } from 'node:fs'
import type { ImageSpec } from '../overlay/image-spec.js'
import { imageNamed } from '../overlay/spec.js'
import { type Case, type Cause, fileName, fileSystemName, nameOf, subjectOf } from './causes.js'

const superblock = 1024
/** EROFS_SUPER_MAGIC_V1, little-endian */
const magic = Buffer.from([0xe2, 0xe1, 0xf5, 0xe0])

/** True if a file holds the superblock of erofs there; undefined if it cannot be read. */
function hasMagic(path: Buffer, begin = 0): boolean | undefined {
  try {
    // to open a device or a pipe is felt by others
    if (!statSync(path).isFile()) return undefined
    // a pipe that has taken the file's place must not be waited for
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const found = Buffer.alloc(magic.length)
      readSync(fd, found, 0, magic.length, begin + superblock)
      return found.equals(magic)
    } finally {
      closeSync(fd)
    }
  } catch {
    return undefined
  }
}

/** The image that a step was to open or mount; none once there is something to mount. */
export function imageOf({ subject, stack, mount }: Case): ImageSpec | undefined {
  if (mount !== undefined) return undefined
  const { option, index = 0 } = subject
  const [, of, layer] = /^(\w+)\[(\d+)\]\.devices$/.exec(option) ?? []
  return of === undefined ? imageNamed(stack, option, index) : imageNamed(stack, of, Number(layer))
}

const ofImage =
  (find: (c: Case, image: ImageSpec) => string | undefined): Cause =>
  (c) => {
    const image = imageOf(c)
    return image && find(c, image)
  }

/** A file that could not be opened: its descriptor or its name. */
export const noSuchFile = ofImage((c) =>
  String(c.subject.path).startsWith('fd ')
    ? `${subjectOf(c)} is not an open fd`
    : `${subjectOf(c)} does not exist`,
)

export const noPermission = ofImage((c) => `no permission to read ${subjectOf(c)}, or to mount it`)

export const notAnImage = ofImage((c, { image, options, devices }) => {
  const refused = /Unknown parameter|Bad value/.exec(c.error.log.join())
  if (refused) return `the options of ${nameOf(c.subject)} are not all known to erofs of this kernel`
  const begin = Number(options.find(({ key }) => key === 'fsoffset')?.value ?? 0)
  const there = hasMagic(fileName(image), begin)
  if (there === false) {
    const where = begin === 0 ? '' : ` at options.fsoffset, ${begin}`
    return `${subjectOf(c)} is no valid erofs image: it has no superblock of erofs${where}`
  }
  const more = devices.length > 0 ? ', does not fit its devices' : ''
  return `${subjectOf(c)} is no valid erofs image${more}, or has features that this kernel lacks (dmesg says more)`
})

export const corruptedImage = ofImage(
  (c) => `${subjectOf(c)} is no valid erofs image: it is corrupted (dmesg says more)`,
)

export const unsupportedImage = ofImage(
  (c) => `${subjectOf(c)} is an erofs image with features or a compression that this kernel lacks`,
)

export const noBackingFile = ofImage(
  (c, { image }) =>
    `${subjectOf(c)} is on a file system${fileSystemName(fileName(image))} that erofs cannot read an image from, as tmpfs and overlay are, or erofs mounts no files here (features().erofsImages)`,
)

/** An image that was given as a directory. */
export function isBareImage(c: Case): string | undefined {
  const { path } = c.subject
  if (!(path instanceof Uint8Array) || !hasMagic(Buffer.from(path))) return undefined
  return `${subjectOf(c)} is an erofs image: it is given as { image: path }`
}
