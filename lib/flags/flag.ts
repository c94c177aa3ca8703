/**
 * Flag types: numbers that know which call they belong to.
 *
 * MS_NODIRATIME is 0x800 and MOUNT_ATTR_NODIRATIME is 0x80: the two families look alike and differ.
 * So each constant carries its family in its type, and a call takes only the families it knows. Bits are
 * combined as an array, `[MS_BIND, MS_REC]`; `|` makes a plain number, which no call takes. Bits that are
 * not in the lists pass through `flag`: a newer kernel may know them.
 */
import { invalidArgType, outOfRange } from '../errors.js'

declare const family: unique symbol

/** One flag, or several already combined, of family `K`. */
export type Flag<K extends string> = number & { readonly [family]: K }

/** What a call takes: one flag, an array of flags, or 0 for none. */
export type Flags<K extends string> = Flag<K> | readonly Flag<K>[] | 0

/**
 * A number as a flag of a family: for bits that have no name here.
 *
 * @param bits whole, from 0 to 2^53 - 1
 * @example umount('/mnt', [MNT_DETACH, flag<'MNT'>(0x10)])
 */
export function flag<K extends string>(bits: number): Flag<K> {
  return checked(bits, 'bits', Number.MAX_SAFE_INTEGER) as Flag<K>
}

/**
 * The bits of `flags`, combined and checked.
 *
 * @param name what errors call the argument
 * @param width bits that the kernel's type has; more than 53 do not fit into a number
 * @throws TypeError for what is no number or array of numbers, RangeError for what does not fit
 */
export function flagBits(flags: Flags<string>, name: string, width: 32 | 53 = 32): number {
  const max = 2 ** width - 1
  if (!Array.isArray(flags)) return checked(flags, name, max)
  // not `|` on numbers: it cuts to 32 bits and makes the 32nd a sign
  let bits = 0n
  for (const [index, one] of flags.entries()) bits |= BigInt(checked(one, `${name}[${index}]`, max))
  return Number(bits)
}

function checked(bits: unknown, name: string, max: number): number {
  if (typeof bits !== 'number') throw invalidArgType(name, 'a flag or an array of flags', bits)
  if (!Number.isInteger(bits) || bits < 0 || bits > max) {
    throw outOfRange(name, `a whole number from 0 to ${max}`, bits)
  }
  return bits
}
