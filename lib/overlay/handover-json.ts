/**
 * A mount written down: `JSON.stringify(rootfs)`, and the reading of it, which trusts nothing.
 *
 * What identifies a mount depends on the kernel. From Linux 6.8 on its id is never given again within a boot. Before,
 * id and device are used again at once, so the root's inode and the mark in the mount's source (owner-mark.ts) are
 * compared too.
 */
import { readFileSync } from 'node:fs'
import { invalidArgType, invalidArgValue } from '../errors.js'
import { readingIfThere } from '../exhausted.js'
import { absolute, splitLast } from './bytes.js'
import { type RungName, rungs } from './choose.js'
import type { MountKind } from './reap.js'

export type Phase = 'detached' | 'attached' | 'gone' | 'released'

/** A directory by device and inode. */
export type Inode = readonly [dev: bigint, ino: bigint]

/** An attached mount, as another process has written it down. */
export interface WrittenMount {
  readonly kind: MountKind
  readonly phase: Exclude<Phase, 'detached'>
  readonly rung: RungName | undefined
  readonly target: Buffer
  readonly mountId: bigint
  /** whether `mountId` is one that is never given again */
  readonly unique: boolean
  readonly dev: bigint
  /** of the mount's root; undefined where it was not known */
  readonly ino: bigint | undefined
  readonly namespace: number
  /** undefined where it could not be read */
  readonly boot: string | undefined
  /** source of the overlay */
  readonly mark: string | undefined
  /** upper and work directory */
  readonly uppers: readonly Inode[]
}

const bootFile = '/proc/sys/kernel/random/boot_id'

let ownBoot: string | undefined

/**
 * The id of this boot of the machine; undefined where /proc does not tell: a sandbox hides it, and nothing can be
 * compared. Read until it is known: a mount that is written down without it cannot be opened again.
 *
 * @throws SyscallError EMFILE, ENFILE, ENOMEM: no room to read it
 */
export function bootId(): string | undefined {
  if (ownBoot === undefined) {
    const text = readingIfThere(bootFile, () => readFileSync(bootFile, 'latin1').trim())
    if (text !== undefined && isBootId(text)) ownBoot = text
  }
  return ownBoot
}

const isBootId = (text: string): boolean => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)

/** A mount as JSON has it: 64-bit numbers are strings. */
export function writeMount(
  mount: Omit<WrittenMount, 'phase' | 'target' | 'boot'> & {
    readonly phase: Phase
    readonly target: Buffer | undefined
  },
): object {
  const { rung, kind, phase, target, mountId, unique, dev, ino, namespace, mark, uppers } = mount
  const text = target?.toString()
  const isText = text === undefined || Buffer.from(text).equals(target!)
  return {
    version: 1,
    rung,
    kind,
    phase,
    target: text,
    // the path as it is, where it is no text
    ...(isText ? {} : { targetBytes: target!.toString('base64') }),
    mountId: String(mountId),
    unique,
    dev: String(dev),
    ...(ino === undefined ? {} : { ino: String(ino) }),
    namespace,
    boot: bootId() ?? null,
    source: mark,
    uppers: uppers.map((inode) => inode.map(String)),
  }
}

/**
 * Reads what `writeMount` wrote of such a mount: an object, or its text.
 *
 * @throws TypeError naming the field, for anything else
 */
export function readMount(json: unknown, kinds: readonly MountKind[]): WrittenMount {
  const fields = objectOf(json)
  const name = (field: string) => `json.${field}`
  const one = <T extends string>(field: string, allowed: readonly T[]): T => {
    const value = fields[field]
    if (allowed.includes(value as T)) return value as T
    throw invalidArgValue(
      name(field),
      value,
      `must be one of ${allowed.map((each) => `'${each}'`).join(', ')}`,
    )
  }
  const number = (field: string): bigint => numberOf(fields[field], name(field))
  if (fields['version'] !== 1) {
    throw invalidArgValue(
      name('version'),
      fields['version'],
      'must be 1, as JSON.stringify writes it of a mount',
    )
  }
  const kind = one('kind', kinds)
  const isUntold = fields['target'] === undefined && fields['targetBytes'] === undefined
  if (
    fields['phase'] === 'detached' ||
    (isUntold && ['released', 'gone'].includes(String(fields['phase'])))
  ) {
    const why = 'must be of an attached mount: a detached one is handed over by its fd (release())'
    throw invalidArgValue(name('phase'), fields['phase'], why)
  }
  const phase = one('phase', ['attached', 'released', 'gone'])
  const rung = fields['rung'] === undefined ? undefined : one('rung', rungs)
  const { namespace, boot, source, unique } = fields
  if (typeof namespace !== 'number') throw invalidArgType(name('namespace'), 'number', namespace)
  if (!Number.isSafeInteger(namespace) || namespace <= 0) {
    throw invalidArgValue(name('namespace'), namespace, 'must be a positive whole number')
  }
  if (boot !== null && typeof boot !== 'string') throw invalidArgType(name('boot'), 'string', boot)
  if (boot !== null && !isBootId(boot))
    throw invalidArgValue(name('boot'), boot, 'must be a boot id, or null')
  if (typeof unique !== 'boolean') throw invalidArgType(name('unique'), 'boolean', unique)
  if (source !== undefined && typeof source !== 'string')
    throw invalidArgType(name('source'), 'string', source)
  return {
    kind,
    phase,
    rung,
    target: targetOf(fields),
    mountId: number('mountId'),
    unique,
    dev: number('dev'),
    ino: fields['ino'] === undefined ? undefined : number('ino'),
    namespace,
    boot: boot ?? undefined,
    mark: source,
    uppers: uppersOf(fields['uppers'], name('uppers')),
  }
}

/** Own fields, each read once. */
function objectOf(json: unknown): Readonly<Record<string, unknown>> {
  let value = json
  if (typeof json === 'string') {
    try {
      value = JSON.parse(json)
    } catch {
      throw invalidArgValue('json', json, 'must be the JSON of a mount')
    }
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidArgType('json', 'an object or its JSON', value)
  }
  return Object.assign(Object.create(null), value)
}

const most = 0xffff_ffff_ffff_ffffn

function numberOf(value: unknown, name: string): bigint {
  if (typeof value !== 'string') throw invalidArgType(name, 'string', value)
  if (!/^(0|[1-9]\d{0,19})$/.test(value) || BigInt(value) > most) {
    throw invalidArgValue(name, value, 'must be a number below 2^64 in decimal digits')
  }
  return BigInt(value)
}

function targetOf({ target, targetBytes }: Readonly<Record<string, unknown>>): Buffer {
  const [value, name] =
    targetBytes === undefined ? [target, 'json.target'] : [targetBytes, 'json.targetBytes']
  if (typeof value !== 'string') throw invalidArgType(name, 'string', value)
  const bytes = Buffer.from(value, targetBytes === undefined ? 'utf8' : 'base64')
  const isWhole = bytes[0] === 0x2f && !bytes.includes(0) && bytes.length <= 4095
  if (!isWhole || !absolute(bytes).equals(bytes) || splitLast(bytes) === undefined) {
    throw invalidArgValue(name, value, 'must be the absolute path of a directory below "/"')
  }
  return bytes
}

function uppersOf(value: unknown, name: string): Inode[] {
  if (value === undefined) return []
  if (!Array.isArray(value) || value.length > 2)
    throw invalidArgType(name, 'an array of two directories', value)
  return value.map((each: unknown, i): Inode => {
    if (!Array.isArray(each) || each.length !== 2) {
      throw invalidArgType(`${name}[${i}]`, 'an array of device and inode', each)
    }
    return [numberOf(each[0], `${name}[${i}][0]`), numberOf(each[1], `${name}[${i}][1]`)]
  })
}
