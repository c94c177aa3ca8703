/**
 * An erofs image as a layer: what the caller says of it, checked. The options are those of erofs(5) that mean
 * something for an image in a file; from the table come their checks and the fsconfig steps.
 */
import { checkKeys } from '../check.js'
import { invalidArgType, invalidArgValue, outOfRange } from '../errors.js'
import { isBytes, type PathLike } from '../path.js'
import { parsePath } from './bytes.js'
import type { ParsedOption } from './options.js'

/**
 * An erofs image as a layer: a regular file, mounted without a loop device and attached nowhere. Since Linux 6.15
 * (images in files 6.12, layers in detached mounts 6.15). A file on a tmpfs or an overlay cannot be mounted.
 */
export interface ImageLayer {
  /** path of the image (a Buffer where it is not UTF-8), or an fd of it, which stays the caller's */
  image: PathLike | number
  /** files that hold its data (`mkfs.erofs --blobdev`), in the order of the image's device table */
  devices?: readonly (PathLike | number)[]
  /** mount options of erofs */
  options?: ImageOptions
}

/** Mount options of erofs(5). What is left out keeps the kernel's default. */
export interface ImageOptions {
  /** POSIX ACLs of its files hold. Default: true, where the kernel has them. */
  acl?: boolean
  /** `user.*` attributes are shown. Default: true, where the kernel has them. */
  user_xattr?: boolean
  /** what of compressed files is read ahead into the cache. Default: `'readaround'`. */
  cache_strategy?: 'disabled' | 'readahead' | 'readaround'
  /** the file is read past the page cache of the file system that it is on. Since Linux 6.13. */
  directio?: boolean
  /** where in the file the image begins, in bytes: a multiple of its block size. Since Linux 6.16. */
  fsoffset?: number
}

/** A file of the caller's. */
export type FileSource = { readonly path: Buffer } | { readonly fd: number }

export interface ImageSpec {
  readonly image: FileSource
  readonly devices: readonly FileSource[]
  readonly options: readonly ParsedOption[]
}

const strategies = ['disabled', 'readahead', 'readaround']

const table: Readonly<Record<keyof ImageOptions, 'negatable' | 'flag' | 'offset' | readonly string[]>> = {
  acl: 'negatable',
  user_xattr: 'negatable',
  cache_strategy: strategies,
  directio: 'flag',
  fsoffset: 'offset',
}

/** Checks an absolute path, or an fd; `expected` is what it must be, for errors. */
export function parseSource(value: unknown, name: string, expected: string): FileSource {
  if (typeof value === 'number') {
    if (!Number.isInteger(value) || value < 0 || value > 0x7fff_ffff)
      throw outOfRange(name, 'an open fd', value)
    return { fd: value }
  }
  if (typeof value !== 'string' && !isBytes(value)) {
    throw invalidArgType(name, expected, value)
  }
  return { path: parsePath(value, name) }
}

/** What an `{ image }` is told from other layers by. */
export const isImageLayer = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && !isBytes(value) && !Array.isArray(value)

/** Checks an `{ image }`; `name` is what errors call it. */
export function parseImage(value: unknown, name: string): ImageSpec {
  const raw = checkKeys(value, name, ['image', 'devices', 'options'])
  const expected = 'string, Buffer or a number (an fd)'
  const { devices = [] } = raw
  if (!Array.isArray(devices))
    throw invalidArgType(`${name}.devices`, 'an array of paths, Buffers or fds', devices)
  return {
    image: parseSource(raw['image'], `${name}.image`, expected),
    devices: Array.from(devices, (each, i) => parseSource(each, `${name}.devices[${i}]`, expected)),
    options: parseImageOptions(raw['options'], `${name}.options`),
  }
}

function parseImageOptions(value: unknown, name: string): ParsedOption[] {
  if (value === undefined) return []
  const raw = checkKeys(value, name, Object.keys(table))
  return Object.entries(table).flatMap(([key, kind]) => {
    const each = raw[key]
    return each === undefined ? [] : parseOption(key, kind, each, `${name}.${key}`)
  })
}

function parseOption(
  key: string,
  kind: (typeof table)[keyof ImageOptions],
  value: unknown,
  name: string,
): ParsedOption[] {
  if (kind === 'offset') {
    if (typeof value !== 'number') throw invalidArgType(name, 'number', value)
    if (!Number.isSafeInteger(value) || value < 0) throw outOfRange(name, 'an integer >= 0', value)
    return [{ key, value: String(value) }]
  }
  if (typeof kind !== 'string') {
    const list = `'${kind.join("', '")}'`
    if (typeof value !== 'string') throw invalidArgType(name, `one of ${list}`, value)
    if (!kind.includes(value)) throw invalidArgValue(name, value, `must be one of ${list}`)
    return [{ key, value }]
  }
  if (typeof value !== 'boolean') throw invalidArgType(name, 'boolean', value)
  if (value) return [{ key }]
  return kind === 'negatable' ? [{ key: `no${key}` }] : []
}
