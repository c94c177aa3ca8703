/**
 * Paths and other strings on their way to the kernel: bytes that end in one NUL.
 *
 * A path may hold any byte but NUL, so it may be given as bytes. A string is encoded as UTF-8; one
 * that has no UTF-8 form is refused, because the replacement characters would name another file.
 */
import { types } from 'node:util'
import { binding, type CString } from './binding.js'
import { checkText } from './check.js'
import { invalidArgType, invalidArgValue, SyscallError } from './errors.js'

/** A path: a string, or its bytes (a Buffer is a Uint8Array) where it is not UTF-8. */
export type PathLike = string | Uint8Array

/**
 * The bytes of `path` and one NUL, in memory of their own.
 *
 * @param path no NUL in it
 * @param name what errors call it
 * @param options `empty: true` lets the empty string pass, which most calls refuse or take for the fd itself
 * @throws TypeError for another type, for a NUL, for a string with a lone surrogate, for no bytes at all
 */
export function cString(path: PathLike, name: string, options: { empty?: boolean } = {}): CString {
  const bytes = bytesOf(path, name, options.empty)
  const copy = Buffer.alloc(bytes.length + 1)
  copy.set(bytes)
  return copy
}

/** Bytes, whichever realm they are of: not what only inherits from them, nor a Proxy, which have none. */
export const isBytes = (value: unknown): value is Uint8Array => types.isUint8Array(value)

/** A copy of bytes, for the caller may write to his while they are waited for; of all there are, whatever `length` says. */
export function copyOf(bytes: Uint8Array, name: string): Buffer {
  try {
    return Buffer.from(new Uint8Array(bytes).buffer)
  } catch {
    throw invalidArgValue(name, bytes, 'must be bytes that are there: their memory was transferred')
  }
}

/** The bytes of `path` in memory of their own. Checked as `cString` does, which names the arguments. */
export function bytesOf(path: PathLike, name: string, empty = false): Buffer {
  if (typeof path !== 'string' && !isBytes(path)) throw invalidArgType(name, 'string or Buffer', path)
  const bytes = typeof path === 'string' ? Buffer.from(checkText(path, name)) : copyOf(path, name)
  if (bytes.length === 0 && !empty) throw invalidArgValue(name, path, 'must not be empty')
  if (bytes.includes(0)) throw invalidArgValue(name, path, 'must not hold a NUL byte')
  return bytes
}

const PATH_MAX = 4096
const ENOENT = 2

/**
 * The working directory of the calling thread. Not `process.cwd()`, which remembers it until `process.chdir()`, also
 * when `setns` has changed it since, and has no bytes that are not UTF-8.
 *
 * @throws SyscallError ENOENT: it was removed, or lies outside of the root directory
 */
export function workingDirectory(): Buffer {
  const buffer = Buffer.alloc(PATH_MAX)
  const size = binding.getcwd(buffer)
  const errno = size < 0 ? -size : buffer[0] === 0x2f ? 0 : ENOENT
  if (errno !== 0) throw new SyscallError({ errno, syscall: 'getcwd', call: 'getcwd()' })
  return buffer.subarray(0, size - 1)
}
