/** What a bind mount or a tmpfs is to be, checked, with defaults filled in. */
import { invalidArgType, invalidArgValue } from '../errors.js'
import { type Idmap, type IdmapOption, isMapped, parseIdmap } from '../idmap.js'
import { type MountAttributes, type Propagation, parsePropagation } from '../overlay/attributes.js'
import { absolute } from '../overlay/bytes.js'
import { checkKeys } from '../overlay/call-options.js'
import type { PathLike } from '../path.js'
import { type AttributeChange, type BindAttributes, isChange, parseChange } from './attributes.js'
import { type Below, parseFd, parseSpot, parseTarget, type Spot } from './place.js'
import { parseTmpfs, type TmpfsOptions } from './tmpfs-options.js'

/** Where a mount goes: what `mountBind` and `mountTmpfs` have in common. */
export interface TargetOptions {
  /**
   * where to attach it: a path, at whose end no symbolic link is followed, or a place below another mount of this
   * library, `{ mount, path }`. Below a detached one it takes Linux 6.15. Left out, the mount stays detached
   */
  target?: PathLike | Below
  /**
   * make the target where it is missing, with the directories above it: a directory (0755), or an empty file (0644) for
   * the bind of what is no directory. If the mount fails, it goes again, but for directories above
   */
  create?: boolean
  /**
   * attach it beneath the mount that is at the target (MOVE_MOUNT_BENEATH): it shows when that one is unmounted, and
   * nobody sees the target without a mount. Since Linux 6.5
   */
  beneath?: boolean
  /** set after the attach: below a shared parent, copies have reached its peers by then. mount_namespaces(7) */
  propagation?: Propagation
}

/** What `mountBind` takes. */
export interface BindOptions extends TargetOptions {
  /**
   * directory or file to show: a path, whose symbolic links are followed; an fd, which stays the caller's; or a place
   * below a mount of this library, `{ mount, path }`, whose symbolic links do not lead out of it
   */
  source: PathLike | number | Below
  /** the mounts below `source` too (AT_RECURSIVE); default `false` */
  recursive?: boolean
  /** ids of the container, for the mounts below too if it is recursive. Since Linux 5.12 */
  idmap?: IdmapOption
  /** of this mount; set on the detached clone, so that it is never visible without them */
  attributes?: BindAttributes
  /**
   * of the mounts below too if it is recursive. Left out, the bind is no peer of its source. `'slave'`: what is mounted
   * below the source comes here, and nothing goes back. `'shared'`: a peer, as by `mount --bind`; unmounting it unmounts
   * from the source too what is mounted below. `'private'` and `'unbindable'` are set after the attach: below a shared
   * parent, the copies that its peers have got then stay if there are mounts below (Linux 6.18)
   */
  propagation?: Propagation
}

/** What `mountTmpfs` takes. */
export interface TmpfsMountOptions extends TargetOptions {
  /** of the file system, by the kernel's names: tmpfs(5) */
  options?: TmpfsOptions
  /** of this mount */
  attributes?: MountAttributes
}

export interface TargetSpec {
  readonly target: Spot | undefined
  readonly create: boolean
  readonly beneath: boolean
  readonly propagation: number | undefined
}

export interface BindSpec extends TargetSpec {
  readonly source: Spot | { readonly fd: number }
  readonly recursive: boolean
  readonly idmap: Idmap | undefined
  readonly attributes: AttributeChange
  /** attributes of the mounts below too */
  readonly recursiveAttributes: boolean
}

export interface TmpfsSpec extends TargetSpec {
  readonly options: ReturnType<typeof parseTmpfs>
  readonly attributes: AttributeChange
}

type Raw = Readonly<Record<string, unknown>>
const targetKeys = ['target', 'create', 'beneath', 'propagation'] as const
const bindKeys = ['source', 'recursive', 'idmap', 'attributes', ...targetKeys] as const
const tmpfsKeys = ['options', 'attributes', ...targetKeys] as const

/** Checks the options of `mountBind`. */
export function parseBind(options: BindOptions): BindSpec {
  const raw = checkKeys(options, 'options', bindKeys)
  const source = parseSource(raw['source'])
  const recursive = flag(raw, 'recursive')
  const attributes = parseChange(raw['attributes'], 'options.attributes', 'recursive')
  const given = (raw['attributes'] as BindAttributes | undefined)?.recursive
  if (given !== undefined && typeof given !== 'boolean') {
    throw invalidArgType('options.attributes.recursive', 'boolean', given)
  }
  if (given && !recursive) {
    throw invalidArgValue('options.attributes.recursive', given, 'needs a recursive bind')
  }
  const idmap = optionalIdmap(raw['idmap'])
  return {
    ...parseAttachment(raw),
    source,
    recursive,
    idmap,
    attributes,
    recursiveAttributes: recursive && given !== false && isChange(attributes),
  }
}

/** Checks the options of `mountTmpfs`. */
export function parseTmpfsMount(options: TmpfsMountOptions): TmpfsSpec {
  const raw = checkKeys(options, 'options', tmpfsKeys)
  return {
    ...parseAttachment(raw),
    options: parseTmpfs(raw['options'], 'options.options'),
    attributes: parseChange(raw['attributes'], 'options.attributes'),
  }
}

function parseSource(value: unknown): BindSpec['source'] {
  if (typeof value === 'number') return { fd: parseFd(value, 'options.source') }
  if (value === undefined) {
    throw invalidArgType('options.source', 'a path, a Buffer, an fd or an object { mount, path }', value)
  }
  return parseSpot(value, 'options.source', true)
}

function flag(raw: Raw, name: string): boolean {
  const value = raw[name]
  if (value === undefined) return false
  if (typeof value !== 'boolean') throw invalidArgType(`options.${name}`, 'boolean', value)
  return value
}

function optionalIdmap(value: unknown): Idmap | undefined {
  if (value === undefined) return undefined
  const idmap = parseIdmap(value, 'options.idmap')
  return isMapped(idmap) || typeof idmap.userns === 'number' ? idmap : { userns: absolute(idmap.userns) }
}

function parseAttachment(raw: Raw): TargetSpec {
  const target = raw['target'] === undefined ? undefined : parseTarget(raw['target'], 'options.target')
  const propagation = parsePropagation(raw['propagation'], 'options.propagation')
  const spec = { target, create: flag(raw, 'create'), beneath: flag(raw, 'beneath'), propagation }
  if (target !== undefined) return spec
  const needing =
    'source' in raw ? (['create', 'beneath'] as const) : (['create', 'beneath', 'propagation'] as const)
  for (const name of needing) {
    if (raw[name] === undefined || raw[name] === false) continue
    throw invalidArgValue(`options.${name}`, raw[name], 'needs a target')
  }
  return spec
}

/** The place that is bound, if it is no fd. */
export const sourceSpot = ({ source }: BindSpec): Spot | undefined => ('fd' in source ? undefined : source)
