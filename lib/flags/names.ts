/**
 * Numbers back to the C names of their bits, as strace prints them.
 */
import * as file from './file.js'
import * as fsContext from './fs-context.js'
import * as mount from './mount.js'
import * as namespace from './namespace.js'
import * as tree from './tree.js'

/** Families that are numbers, not bits. */
const enumerations: ReadonlySet<string> = new Set(['FSCONFIG'])

/** Every constant there is, several bits before one (STATX_BASIC_STATS, O_TMPFILE), then by value. */
const constants: readonly (readonly [name: string, value: number])[] = [
  fsContext,
  tree,
  mount,
  file,
  namespace,
]
  .flatMap((module) => Object.entries<number>(module))
  .sort(([, a], [, b]) => Number(isOneBit(a)) - Number(isOneBit(b)) || a - b)

/** The constants of lib/flags, by name. */
export const flagValues: Readonly<Record<string, number>> = Object.fromEntries(constants)

/**
 * The names of the bits of `bits`, joined by `|`.
 *
 * @param bits unknown ones are printed as one hexadecimal number at the end
 * @param families prefixes of the names, without the underscore: `'MS'`, `'OPEN_TREE', 'AT'`; FSCONFIG,
 *   which are not bits, are looked up as a whole
 * @returns `'MS_BIND|MS_REC'`; `'0'` for none
 */
export function flagNames(bits: number | bigint, ...families: readonly string[]): string {
  const names: string[] = []
  let rest = BigInt(bits)
  for (const family of families) {
    for (const [name, number] of constants) {
      if (familyOf(name) !== family) continue
      const value = BigInt(number)
      if (enumerations.has(family)) {
        if (value === rest) return name
      } else if (value > 0n && (rest & value) === value) {
        names.push(name)
        rest &= ~value
      }
    }
  }
  if (rest !== 0n || names.length === 0) names.push(rest === 0n ? '0' : `0x${rest.toString(16)}`)
  return names.join('|')
}

/** Without this, STATX would have the STATX_ATTR too. */
function familyOf(name: string): string {
  return name.match(/^(STATX_ATTR|MOUNT_ATTR|MOVE_MOUNT|OPEN_TREE|[A-Z]+)_/)?.[1] ?? name
}

function isOneBit(value: number): boolean {
  return (value & (value - 1)) === 0
}
