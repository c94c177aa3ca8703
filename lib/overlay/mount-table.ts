/**
 * /proc/thread-self/mountinfo (proc_pid_mountinfo(5)): the mounts of the caller's mount namespace below its root.
 *
 *   36 35 0:39 / /c/7/rootfs rw,noatime shared:1 - overlay overlayfd:4026531836/4711@8215 rw,lowerdir=…
 *   id parent device root target attributes optional… - type source options
 *
 * Names hold any byte, so the work is done on latin1 strings, in which a character is a byte. The kernel
 * writes space, tab, newline and backslash as a backslash and three octal digits: fields are split first and
 * unescaped afterwards, so that no name can look like a field or a line.
 */
import { readFileSync } from 'node:fs'
import { reading } from '../exhausted.js'

/** A mount, as the table has it. */
export interface ListedMount {
  /** the id that is used again */
  readonly id: bigint
  readonly parent: bigint
  /** as `statxField.dev` */
  readonly dev: bigint
  readonly target: Buffer
  readonly type: string
  /** one character a byte */
  readonly source: string
}

const unescaped = (field: string): string =>
  field.replace(/\\([0-3][0-7]{2})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))

function parseLine(line: string): ListedMount | undefined {
  const fields = line.split(' ')
  const dash = fields.indexOf('-', 6)
  const [id = '', parent = '', device = '', , target] = fields
  const [type, source] = [fields[dash + 1], fields[dash + 2]]
  const numbers = /^(\d+):(\d+)$/.exec(device)
  if (dash < 0 || numbers === null || target === undefined || type === undefined || source === undefined)
    return undefined
  if (!/^\d+$/.test(id) || !/^\d+$/.test(parent)) return undefined
  return {
    id: BigInt(id),
    parent: BigInt(parent),
    dev: BigInt(numbers[1]!) | (BigInt(numbers[2]!) << 32n),
    target: Buffer.from(unescaped(target), 'latin1'),
    type: unescaped(type),
    source: unescaped(source),
  }
}

/** The mounts of a table; a line that is none is passed over. `wanted`: part of a line, to be found before it is parsed. */
export function parseMounts(table: Buffer, wanted = ''): ListedMount[] {
  return table
    .toString('latin1')
    .split('\n')
    .filter((line) => line.includes(wanted))
    .flatMap((line) => parseLine(line) ?? [])
}

const tableFile = '/proc/thread-self/mountinfo'

/**
 * Reads the table of the calling thread's namespace.
 *
 * @throws Error of node:fs without /proc · SyscallError EMFILE, ENFILE, ENOMEM
 */
export const readMounts = (wanted?: string): ListedMount[] =>
  parseMounts(
    reading(tableFile, () => readFileSync(tableFile)),
    wanted,
  )
