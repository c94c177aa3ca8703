/**
 * Paths as bytes: absolute, without doubled slashes and `.`, and otherwise as the caller wrote them.
 *
 * `..` is left to the kernel: taking it away by hand leads elsewhere where the part before it is a
 * symbolic link. The work is done on latin1 strings, in which each character is one byte.
 */
import { bytesOf, type PathLike, workingDirectory } from '../path.js'

const latin1 = (path: PathLike): string => Buffer.from(path as Uint8Array).toString('latin1')

const slash = 0x2f
const dot = 0x2e

/** True for the bytes of a path that `absolute` would not change. */
function isAbsolute(path: Uint8Array): boolean {
  if (path[0] !== slash || path.length === 1) return path[0] === slash
  for (let i = 1; i < path.length; i++) {
    if (path[i - 1] !== slash) continue
    if (path[i] === slash || (path[i] === dot && (i + 1 === path.length || path[i + 1] === slash)))
      return false
  }
  return path[path.length - 1] !== slash
}

/** The absolute path, against the working directory of now. */
export function absolute(path: PathLike): Buffer {
  if (Buffer.isBuffer(path) && isAbsolute(path)) return path
  const text = latin1(path)
  const whole = text.startsWith('/') ? text : `${latin1(workingDirectory())}/${text}`
  const parts = whole.split('/').filter((part) => part !== '' && part !== '.')
  return Buffer.from(`/${parts.join('/')}`, 'latin1')
}

/** A path as the caller gave it, checked: absolute, and in memory of its own; `name` is what errors call it. */
export const parsePath = (value: unknown, name: string): Buffer => absolute(bytesOf(value as PathLike, name))

const partsOf = (path: Uint8Array): string[] =>
  latin1(path)
    .split('/')
    .filter((part) => part !== '')

/** The deepest directory above all of the paths (never one of them); undefined if a path holds `..`. */
export function commonParent(paths: readonly Uint8Array[]): Buffer | undefined {
  const [first, ...others] = paths.map(partsOf)
  if (first === undefined || [first, ...others].some((parts) => parts.includes('..'))) return undefined
  let depth = first.length - 1
  for (const parts of others) {
    depth = Math.min(depth, parts.length - 1)
    for (let i = 0; i < depth; i++) {
      if (parts[i] !== first[i]) depth = i
    }
  }
  return depth < 0 ? undefined : Buffer.from(`/${first.slice(0, depth).join('/')}`, 'latin1')
}

/** The name of `path` below `parent`, which `commonParent` found. */
export function relativeTo(parent: Uint8Array, path: Uint8Array): Buffer {
  return Buffer.from(partsOf(path).slice(partsOf(parent).length).join('/'), 'latin1')
}

/** The directory that holds the last part of a path, and that part; undefined for `/` and after `..`. */
export function splitLast(path: Uint8Array): { parent: Buffer; name: Buffer } | undefined {
  if (Buffer.isBuffer(path) && path.length > 1 && isAbsolute(path)) {
    const at = path.lastIndexOf(slash)
    const name = path.subarray(at + 1)
    if (name.length === 2 && name[0] === dot && name[1] === dot) return undefined
    return { parent: at === 0 ? path.subarray(0, 1) : path.subarray(0, at), name }
  }
  const parts = partsOf(path)
  const name = parts.pop()
  if (name === undefined || name === '..') return undefined
  return { parent: Buffer.from(`/${parts.join('/')}`, 'latin1'), name: Buffer.from(name, 'latin1') }
}

/** The last part of a path; of one without a name of its own a name that nothing is removed by. */
export const lastName = (path: Uint8Array): Buffer => splitLast(path)?.name ?? Buffer.from('.')

/** The directories above a path, outermost first, without `/`. */
export function ancestors(path: Uint8Array): Buffer[] {
  const parts = partsOf(path).slice(0, -1)
  return parts.map((_, i) => Buffer.from(`/${parts.slice(0, i + 1).join('/')}`, 'latin1'))
}

/** The names of a path, one after the other. */
export const namesOf = (path: Uint8Array): Buffer[] =>
  partsOf(path).map((part) => Buffer.from(part, 'latin1'))

/** True if `inner` is `outer` or lies below it, by name. */
export function isBelow(outer: Uint8Array, inner: Uint8Array): boolean {
  const a = partsOf(outer)
  const b = partsOf(inner)
  return a.length <= b.length && a.every((part, i) => part === b[i])
}
