/**
 * What the caller wants, checked, with defaults filled in. Nothing of the kernel in it: the same spec
 * is planned for every rung.
 *
 * A spec has two halves that live apart: the layers (a LayerStack opens them once) and the mount (each
 * container has its own).
 */
import { invalidArgType, invalidArgValue, outOfRange } from '../errors.js'
import { type Idmap, type IdmapOption, isMapped, parseIdmap } from '../idmap.js'
import type { PathLike } from '../path.js'
import type { Hole, PathText } from '../program/step.js'
import {
  type MountAttributes,
  type ParsedAttributes,
  type Propagation,
  parseAttributes,
  parsePropagation,
} from './attributes.js'
import { absolute, parsePath } from './bytes.js'
import { checkKeys } from './call-options.js'
import { type ImageLayer, type ImageSpec, isImageLayer, parseImage, parseSource } from './image-spec.js'
import { type Inside, type InsideBytes, insideOf, type NamespaceTarget, parseTarget } from './inside.js'
import { type OverlayOptions, type ParsedOptions, type PlannedOptions, parseOptions } from './options.js'

/**
 * A layer: a path (a Buffer where it is not UTF-8), an fd of a directory, which stays the caller's, or an erofs image.
 */
export type LayerSource = PathLike | number | ImageLayer

/** Where the layers are: what `LayerStack.open` takes. */
export interface StackOptions {
  /** lower layers, topmost first, as the kernel has it; 1 to 500 together with `datadir` */
  lowerdir: readonly LayerSource[]
  /** data-only layers below them, reached through metacopy redirects; since Linux 6.5 */
  datadir?: readonly LayerSource[]
  /** ids as the container sees them; one idmapped tree serves every mount of the stack */
  idmap?: IdmapOption
}

/** One mount: what `stack.mount` takes. */
export interface StackMountOptions {
  /** directory that takes the writes; without it (and `workdir`) the mount is read-only */
  upperdir?: PathLike
  /** empty directory on the same mount as `upperdir`, for the kernel's use */
  workdir?: PathLike
  /**
   * directory to attach it to; left out, the mount stays detached. `{ path, mountNamespace }` is a directory in another
   * mount namespace: then this one never shows the mount. `{ path }` is the path
   */
  target?: PathLike | NamespaceTarget
  /** a mapping of this mount's own: one more detached tree, made for it and closed with others */
  idmap?: IdmapOption
  /**
   * What is done about the owner of the upper's files under an idmap. `'asis'` (default): nothing, it was
   * prepared for the shifted ids. `'shifted'`: its top is given to the mapped root; files are stored with
   * the container's ids shifted. `'idmapped'`: the upper is idmapped as the layers are, files are stored
   * with the container's own ids, 0-based.
   */
  upper?: 'asis' | 'shifted' | 'idmapped'
  /**
   * Make `upperdir`, `workdir` and `target` where they are missing, with the directories above them. A new
   * upper takes mode, owner (as the container sees it) and extended attributes of the top layer. If the
   * mount fails, what was made for it goes again, but for directories above. An upper that even its owner may not enter
   * is one that a process has not finished before it was killed: it is finished.
   */
  create?: boolean
  /**
   * Refuse (EBUSY) an `upperdir` or `workdir` that an overlay of another process, or one that is still held by an open
   * file, has in use: what the kernel itself does only with `index: 'on'`. Asked before anything is made, by an
   * overlay that cannot come about: 1 to 3 ms and a line in the kernel's log for each of the two. Default: false.
   */
  checkUpper?: boolean
  /** options of the overlay file system, by the kernel's names */
  options?: OverlayOptions
  /** attributes of this mount, not of the superblock; in rung classic `readonly` is the superblock's too */
  attributes?: MountAttributes
  /** set after the attach: below a shared parent, copies have reached its peers by then */
  propagation?: Propagation
}

/** What `mountOverlay` takes: layers and mount together. */
export interface OverlayMountOptions extends StackOptions, Omit<StackMountOptions, 'idmap'> {}

export type Layer = { readonly path: Buffer } | { readonly fd: number } | ImageSpec

export interface StackSpec {
  readonly layers: readonly Layer[]
  /** how many of `layers`, at the end, hold data only */
  readonly dataLayers: number
  readonly idmap: Idmap | undefined
}

export interface MountSpec {
  readonly upperdir: Buffer | undefined
  readonly workdir: Buffer | undefined
  readonly target: Buffer | undefined
  /** where `target` is, if not in the caller's namespace */
  readonly inside: InsideBytes | undefined
  /** only if the mount has one of its own */
  readonly idmap: Idmap | undefined
  readonly upper: 'asis' | 'shifted' | 'idmapped'
  readonly create: boolean
  readonly checkUpper: boolean
  readonly options: ParsedOptions
  readonly attributes: ParsedAttributes
  readonly propagation: number | undefined
}

/** A spec as the rungs plan it: its paths may be holes, and so may texts of its mapping and of its options. */
export interface Planned
  extends Omit<MountSpec, 'upperdir' | 'workdir' | 'target' | 'inside' | 'idmap' | 'options'> {
  readonly upperdir: PathText | undefined
  readonly workdir: PathText | undefined
  readonly target: PathText | undefined
  /** their last names, where they are holes: rung classic needs that of `target` apart, and `create` each */
  readonly upperName?: Hole
  readonly workName?: Hole
  readonly targetName?: Hole
  readonly inside: Inside | undefined
  readonly idmap: Idmap | { readonly uidMap: Hole; readonly gidMap: Hole } | undefined
  readonly options: PlannedOptions
}

/** The kernel's OVL_MAX_STACK. */
const maxLayers = 500

const stackKeys = ['lowerdir', 'datadir', 'idmap'] as const
const mountKeys = [
  'upperdir',
  'workdir',
  'target',
  'idmap',
  'upper',
  'create',
  'checkUpper',
  'options',
  'attributes',
  'propagation',
] as const

type Raw = Readonly<Record<string, unknown>>

/** Checks the options of `LayerStack.open`. */
export function parseStack(options: StackOptions): StackSpec {
  const raw = checkKeys(options, 'options', stackKeys)
  return stackOf(raw)
}

/** Checks the options of `stack.mount`; `name` is what errors call them. */
export function parseMount(options: StackMountOptions, stack: StackSpec, name = 'options'): MountSpec {
  const raw = checkKeys(options, name, mountKeys)
  return mountOf(raw, stack, name)
}

/** Checks the options of `mountOverlay`. */
export function parseOverlay(options: OverlayMountOptions): { stack: StackSpec; mount: MountSpec } {
  const raw = checkKeys(options, 'options', [...new Set([...stackKeys, ...mountKeys])])
  const stack = stackOf(raw)
  return { stack, mount: mountOf({ ...raw, idmap: undefined }, stack, 'options') }
}

function stackOf(raw: Raw): StackSpec {
  const lower = parseLayers(raw['lowerdir'], 'options.lowerdir')
  const data = raw['datadir'] === undefined ? [] : parseLayers(raw['datadir'], 'options.datadir')
  if (lower.length === 0) throw invalidArgValue('options.lowerdir', [], 'must hold at least one layer')
  const count = lower.length + data.length
  if (count > maxLayers) {
    throw outOfRange('options.lowerdir', `at most ${maxLayers} layers, data-only ones included`, count)
  }
  const idmap = optionalIdmap(raw, 'options')
  return { layers: [...lower, ...data], dataLayers: data.length, idmap }
}

function parseLayers(value: unknown, name: string): Layer[] {
  if (!Array.isArray(value)) throw invalidArgType(name, 'an array of paths, Buffers, fds or images', value)
  return Array.from(value, (layer: unknown, i) => {
    const which = `${name}[${i}]`
    if (isImageLayer(layer)) return parseImage(layer, which)
    return parseSource(layer, which, 'string, Buffer, a number (an fd) or an image ({ image })')
  })
}

function optionalPath(raw: Raw, key: string, name: string): Buffer | undefined {
  return raw[key] === undefined ? undefined : parsePath(raw[key], `${name}.${key}`)
}

function optionalIdmap(raw: Raw, name: string): Idmap | undefined {
  if (raw['idmap'] === undefined) return undefined
  const idmap = parseIdmap(raw['idmap'], `${name}.idmap`)
  return isMapped(idmap) || typeof idmap.userns === 'number' ? idmap : { userns: absolute(idmap.userns) }
}

const noTarget = { target: undefined, namespace: undefined }

function mountOf(raw: Raw, stack: StackSpec, name: string): MountSpec {
  const upperdir = optionalPath(raw, 'upperdir', name)
  const workdir = optionalPath(raw, 'workdir', name)
  const { target, namespace } =
    raw['target'] === undefined ? noTarget : parseTarget(raw['target'], `${name}.target`)
  const upper = parseUpper(raw['upper'], `${name}.upper`)
  const create = raw['create'] === undefined ? false : raw['create']
  if (typeof create !== 'boolean') throw invalidArgType(`${name}.create`, 'boolean', create)
  const checkUpper = raw['checkUpper'] === undefined ? false : raw['checkUpper']
  if (typeof checkUpper !== 'boolean') throw invalidArgType(`${name}.checkUpper`, 'boolean', checkUpper)
  const options = parseOptions(raw['options'], `${name}.options`, upperdir !== undefined)
  const attributes = parseAttributes(raw['attributes'], `${name}.attributes`)
  const propagation = parsePropagation(raw['propagation'], `${name}.propagation`)
  const idmap = optionalIdmap(raw, name)

  if ((upperdir === undefined) !== (workdir === undefined)) {
    const missing = upperdir === undefined ? 'upperdir' : 'workdir'
    throw invalidArgValue(
      `${name}.${missing}`,
      undefined,
      'is missing: upperdir and workdir are given both or neither',
    )
  }
  if (target === undefined && propagation !== undefined) {
    throw invalidArgValue(
      `${name}.propagation`,
      raw['propagation'],
      'needs a target: it is set after the attach',
    )
  }
  if (upper !== 'asis') {
    if (upperdir === undefined) throw invalidArgValue(`${name}.upper`, upper, 'needs an upperdir')
    if (!(idmap ?? stack.idmap)) throw invalidArgValue(`${name}.upper`, upper, 'needs an idmap')
  }
  if (checkUpper && upperdir === undefined) {
    throw invalidArgValue(`${name}.checkUpper`, checkUpper, 'needs an upperdir')
  }
  if (upper === 'idmapped' && options.list.some(({ key }) => key === 'override_creds')) {
    // the superblock is then created as the mapped root, and the option would keep the caller's ids, which are not mapped
    throw invalidArgValue(`${name}.options.override_creds`, true, "excludes upper: 'idmapped'")
  }
  if (stack.layers.length === 1 && upperdir === undefined && options.list.length > 0) {
    throw invalidArgValue(
      `${name}.options`,
      raw['options'],
      'cannot be used: one layer without an upperdir is a clone of it, not an overlay',
    )
  }
  if (stack.dataLayers > 0 && stack.layers.length - stack.dataLayers === 1 && upperdir === undefined) {
    const why = 'must be given: one lower layer above data-only ones takes an upperdir, or a second one'
    throw invalidArgValue(`${name}.upperdir`, upperdir, why)
  }
  const inside = target && namespace && insideOf(target, namespace)
  return {
    upperdir,
    workdir,
    target,
    inside,
    idmap,
    upper,
    create,
    checkUpper,
    options,
    attributes,
    propagation,
  }
}

function parseUpper(value: unknown, name: string): MountSpec['upper'] {
  if (value === undefined) return 'asis'
  if (typeof value !== 'string') throw invalidArgType(name, "one of 'asis', 'shifted', 'idmapped'", value)
  if (value !== 'asis' && value !== 'shifted' && value !== 'idmapped') {
    throw invalidArgValue(name, value, "must be one of 'asis', 'shifted', 'idmapped'")
  }
  return value
}

/** The name of a layer's option and its place in it, for errors. */
export function layerSubject(
  stack: StackSpec,
  index: number,
): { option: string; index: number; path: Buffer | string } {
  const layer = stack.layers[index]!
  const first = stack.layers.length - stack.dataLayers
  const source = 'image' in layer ? layer.image : layer
  const path = 'path' in source ? source.path : `fd ${source.fd}`
  return index < first
    ? { option: 'lowerdir', index, path }
    : { option: 'datadir', index: index - first, path }
}

/** The image that a layer is, if it is one. */
export function imageAt({ layers }: StackSpec, index: number): ImageSpec | undefined {
  const layer = layers[index]
  return layer && 'image' in layer ? layer : undefined
}

/** The image that `lowerdir[3]` or `datadir[0]` is, if it is one. */
export function imageNamed(stack: StackSpec, option: string, index: number): ImageSpec | undefined {
  if (option !== 'lowerdir' && option !== 'datadir') return undefined
  const first = option === 'lowerdir' ? 0 : stack.layers.length - stack.dataLayers
  return imageAt(stack, first + index)
}

/** How many of the layers are images. */
export const imageCount = ({ layers }: StackSpec): number => layers.filter((layer) => 'image' in layer).length
