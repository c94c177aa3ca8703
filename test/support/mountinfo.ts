/**
 * /proc/PID/mountinfo as objects (proc_pid_mountinfo(5)):
 *
 *   36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
 *   id parent device root target attributes propagation … - type source options
 *
 * What names a file stays bytes, because names need not be UTF-8. The kernel writes space, tab, newline,
 * backslash and, within options, comma as a backslash and three octal digits, so fields are split first and
 * unescaped afterwards. The parser is pure; `mounts` is the thin reader.
 */
import { readFileSync } from 'node:fs'

export interface Mount {
  readonly id: number
  readonly parent: number
  /** `major:minor` */
  readonly device: string
  readonly root: Buffer
  readonly target: Buffer
  readonly attributes: readonly string[]
  /** `shared:7`, `master:3`, `propagate_from:2`, `unbindable`; empty means private */
  readonly propagation: readonly string[]
  readonly type: string
  readonly source: Buffer
  /** those of the superblock, one character a byte ('latin1') */
  readonly options: readonly string[]
}

const [SPACE, NEWLINE, BACKSLASH] = [0x20, 0x0a, 0x5c]

const split = (bytes: Buffer, separator: number): Buffer[] => {
  const parts: Buffer[] = []
  let start = 0
  for (let end = bytes.indexOf(separator); end !== -1; end = bytes.indexOf(separator, start)) {
    parts.push(bytes.subarray(start, end))
    start = end + 1
  }
  parts.push(bytes.subarray(start))
  return parts
}

const unescaped = (field: Buffer): Buffer => {
  const out: number[] = []
  for (let i = 0; i < field.length; i++) {
    const octal = field[i] === BACKSLASH ? field.toString('latin1', i + 1, i + 4) : ''
    if (/^[0-3][0-7]{2}$/.test(octal)) {
      out.push(Number.parseInt(octal, 8))
      i += 3
    } else {
      out.push(field[i] as number)
    }
  }
  return Buffer.from(out)
}

const parseLine = (line: Buffer): Mount => {
  const fields = split(line, SPACE)
  const text = fields.map((field) => field.toString('latin1'))
  const dash = text.indexOf('-', 6)
  const [id, parent, device, , , attributes] = text
  const [root, target, source] = [fields[3], fields[4], fields[dash + 2]]
  const [type, options] = [text[dash + 1], text[dash + 3]]
  if (dash === -1 || !root || !target || !source || type === undefined || options === undefined) {
    throw new Error(`not a line of mountinfo: ${line.toString('latin1')}`)
  }
  return {
    id: Number(id),
    parent: Number(parent),
    device: device as string,
    root: unescaped(root),
    target: unescaped(target),
    attributes: (attributes as string).split(','),
    propagation: text.slice(6, dash),
    type,
    source: unescaped(source),
    options: options.split(',').map((option) => unescaped(Buffer.from(option, 'latin1')).toString('latin1')),
  }
}

export const parseMountinfo = (bytes: Buffer): Mount[] =>
  split(bytes, NEWLINE)
    .filter((line) => line.length > 0)
    .map(parseLine)

/** The mounts that a process sees, in the kernel's order: a parent before its children. */
export const mounts = (pid: number | 'self' = 'self'): Mount[] =>
  parseMountinfo(readFileSync(`/proc/${pid}/mountinfo`))

/** Whether a mount's target is `dir` or lies below it. */
export const isBelow = (mount: Mount, dir: string | Buffer): boolean => {
  const base = Buffer.from(dir)
  const { target } = mount
  return (
    target.equals(base) || target.subarray(0, base.length + 1).equals(Buffer.concat([base, Buffer.from('/')]))
  )
}
