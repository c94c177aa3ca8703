/**
 * System calls as strace prints them: what errors and plans show of a call.
 *
 * Each function renders one kind of argument; `callNotation` puts them together. Buffers that the kernel
 * fills have no value before the call, and are printed as `{...}`.
 */
import { printable } from './errors.js'
import { flagNames } from './flags/names.js'
import { AT_FDCWD } from './flags/tree.js'

/** A system call with its arguments already rendered. */
export function callNotation(name: string, ...args: readonly string[]): string {
  return `${name}(${args.join(', ')})`
}

export function fdNotation(fd: number): string {
  return fd === AT_FDCWD ? 'AT_FDCWD' : String(fd)
}

/** A string in quotes, NULL for null; one NUL at the end is not printed. */
export function stringNotation(text: string | Uint8Array | null): string {
  if (text === null) return 'NULL'
  const bytes = typeof text === 'string' ? Buffer.from(text) : text
  return `"${printable(bytes.at(-1) === 0 ? bytes.subarray(0, -1) : bytes)}"`
}

/** Bytes that are no string: hexadecimal, the first 32 of them. */
export function bytesNotation(bytes: Uint8Array): string {
  const shown = [...bytes.subarray(0, 32)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`)
  return `"${shown.join('')}"${bytes.length > 32 ? '...' : ''}`
}

/** struct mount_attr and its size. */
export function mountAttrNotation(set: number, clear: number, propagation: number, usernsFd: number): string {
  const fields = [
    `attr_set=${flagNames(set, 'MOUNT_ATTR')}`,
    `attr_clr=${flagNames(clear, 'MOUNT_ATTR')}`,
    `propagation=${flagNames(propagation, 'MS')}`,
    `userns_fd=${usernsFd}`,
  ]
  return `{${fields.join(', ')}}, 32`
}

/** struct open_how and its size. */
export function openHowNotation(flags: number, mode: number, resolve: number): string {
  const fields = [`flags=${openFlagsNotation(flags)}`]
  if (mode !== 0) fields.push(`mode=0${mode.toString(8)}`)
  fields.push(`resolve=${flagNames(resolve, 'RESOLVE')}`)
  return `{${fields.join(', ')}}, 24`
}

/** O_* flags, of which the access mode is a number in the lowest two bits: O_RDONLY is 0. */
export function openFlagsNotation(flags: number): string {
  const names = flagNames(flags, 'O')
  if ((flags & 3) !== 0) return names
  return names === '0' ? 'O_RDONLY' : `O_RDONLY|${names}`
}
