/**
 * Checks options of the overlay file system against their table, and against what the kernel was found to know.
 */
import { invalidArgType, invalidArgValue, outOfRange, unknownOption, unsupported } from '../errors.js'
import type { Features } from '../host/features.js'
import type { Hole } from '../program/step.js'
import {
  type Conflict,
  conflicts,
  type Kind,
  type OptionName,
  type OverlayOptions,
  optionTable,
  type Side,
  takesTrusted,
  turnedOffInside,
} from './option-table.js'

export type { OverlayOptions } from './option-table.js'

export interface ParsedOption<Value = string> {
  /** the kernel's key */
  readonly key: string
  /** undefined for a flag */
  readonly value?: Value
  /** its value is free text, which differs from mount to mount */
  readonly isText?: true
}

export interface ParsedOptions {
  readonly list: readonly ParsedOption[]
  /** the mark of an earlier volatile mount is to be removed */
  readonly resetVolatile: boolean
  readonly volatile: boolean
  /** as the caller gave it; undefined leaves it to the user namespace (userxattr.ts) */
  readonly userxattr?: boolean | undefined
}

/** The same, its free texts perhaps holes. */
export interface PlannedOptions extends Omit<ParsedOptions, 'list'> {
  readonly list: readonly ParsedOption<string | Hole>[]
}

const none: ParsedOptions = { list: [], resetVolatile: false, volatile: false }

/**
 * Checks options; `name` is what errors call them.
 *
 * @param hasUpper there is an upperdir, on which some conflicts depend
 */
export function parseOptions(options: unknown, name: string, hasUpper = true): ParsedOptions {
  if (options === undefined) return none
  if (
    typeof options !== 'object' ||
    options === null ||
    Array.isArray(options) ||
    ArrayBuffer.isView(options)
  ) {
    throw invalidArgType(name, 'an object', options)
  }
  const list: ParsedOption[] = []
  const given: OverlayOptions = {}
  // not checkKeys: in the order in which they are given
  for (const key in options) {
    const value = (options as Readonly<Record<string, unknown>>)[key]
    if (value === undefined) continue
    if (!Object.hasOwn(optionTable, key)) throw unknownOption(`${name}.${key}`, Object.keys(optionTable))
    Object.assign(given, { [key]: value })
    const parsed = parseOption(key, optionTable[key as OptionName].kind, value, `${name}.${key}`)
    if (parsed) list.push(parsed)
  }
  checkConflicts(list, name, hasUpper)
  const { volatile, fsync, userxattr } = given
  const isVolatile = volatile === true || volatile === 'reset' || fsync === 'volatile'
  return { list, resetVolatile: volatile === 'reset', volatile: isVolatile, userxattr }
}

function parseOption(key: string, kind: Kind, value: unknown, name: string): ParsedOption | undefined {
  if (kind === 'text') return { key, value: parseText(value, name), isText: true }
  if (typeof kind !== 'string') {
    if (typeof value !== 'string') throw invalidArgType(name, `one of '${kind.join("', '")}'`, value)
    if (!kind.includes(value)) throw invalidArgValue(name, value, `must be one of '${kind.join("', '")}'`)
    return { key, value }
  }
  if (key === 'volatile' && value === 'reset') return { key }
  if (typeof value !== 'boolean') {
    throw invalidArgType(name, key === 'volatile' ? "boolean or 'reset'" : 'boolean', value)
  }
  if (value) return { key }
  return kind === 'negatable' ? { key: `no${key}` } : undefined
}

/** The longest string fsconfig(2) takes. */
export const maxText = 255

/** What means the same in the quotes of mount(2), which know no escapes, and without them in fsconfig(2). */
function parseText(value: unknown, name: string): string {
  if (typeof value !== 'string') throw invalidArgType(name, 'string', value)
  if (!/^[\x20-\x7e]+$/.test(value) || /["\\]/.test(value)) {
    throw invalidArgValue(name, value, "must be printable ASCII without '\"' and '\\'")
  }
  if (value.length > maxText) throw outOfRange(name, `at most ${maxText} bytes`, value.length)
  return value
}

function find<V>(list: readonly ParsedOption<V>[], [option, ...words]: Side): ParsedOption<V> | undefined {
  return list.find(
    ({ key, value }) => key === option && (words.length === 0 || words.includes(String(value))),
  )
}

/** The first option that is on one of the sides. */
export function findAny<V>(
  list: readonly ParsedOption<V>[],
  sides: readonly Side[],
): ParsedOption<V> | undefined {
  for (const side of sides) {
    const found = find(list, side)
    if (found) return found
  }
  return undefined
}

/** The two options of the first conflict among them. */
export function conflictOf(
  list: readonly ParsedOption[],
  among: readonly Conflict[],
  hasUpper: boolean,
): readonly [ParsedOption, ParsedOption] | undefined {
  for (const { pair, upper } of among) {
    const [a, b] = [find(list, pair[0]), find(list, pair[1])]
    if (a && b && (hasUpper || !upper)) return [a, b]
  }
  return undefined
}

/** `metacopy: 'on'`, `userxattr`, `context` */
export const showOption = ({ key, value, isText }: ParsedOption<string | Hole>): string =>
  value === undefined || isText ? key : `${key}: '${value}'`

function checkConflicts(list: readonly ParsedOption[], name: string, hasUpper: boolean): void {
  const pair = list.length > 1 ? conflictOf(list, conflicts, hasUpper) : undefined
  if (pair) {
    const [{ key, value = true }, other] = pair
    throw invalidArgValue(`${name}.${key}`, value, `excludes ${showOption(other)}`)
  }
  if (!hasUpper && find(list, ['nfs_export', 'on']) && !find(list, ['redirect_dir', 'nofollow'])) {
    throw invalidArgValue(`${name}.nfs_export`, 'on', "needs redirect_dir: 'nofollow' without an upperdir")
  }
}

/** Options that change nothing where nothing is written, which the kernel says in its log only. */
const forUppers: readonly Side[] = [['volatile'], ['fsync'], ['index', 'on'], ['uuid', 'on']]

/** What is to be said about options, on a kernel with these features. */
export function optionNotes({ list }: PlannedOptions, features: Features, hasUpper: boolean): string[] {
  if (list.length === 0) return []
  const idle = hasUpper ? [] : forUppers.flatMap((side) => find(list, side) ?? [])
  const notes = idle.map((option) => `options.${showOption(option)} does nothing without an upperdir`)
  if (features.overlayOptions === false) {
    const why = features.reasons['overlayOptions'] ?? 'not tried'
    notes.push(
      `whether this kernel's overlay knows the options cannot be told before the mount, which fails if not: ${why}`,
    )
  }
  return notes
}

const needsTrusted = 'cannot be had inside a user namespace: it takes trusted.overlay.* attributes'
const turnsOff = 'cannot be had inside a user namespace: the kernel turns it off unasked'

/**
 * Refuses what cannot be had here: what this kernel's overlay was found not to know, and what a user namespace does
 * not allow. `name` is what errors call the options.
 *
 * @throws Error ERR_OVERLAYFD_UNSUPPORTED · TypeError ERR_INVALID_ARG_VALUE
 */
export function checkHere({ list }: PlannedOptions, features: Features, name: string): void {
  if (list.length === 0) return
  if (!features.initialUserNamespace) refuseInside(list, name)
  if (features.overlayOptions !== false) refuseUnknown(list, features.overlayOptions, name)
}

function refuseInside(list: PlannedOptions['list'], name: string): void {
  const trusted = findAny(list, takesTrusted)
  if (trusted) {
    const instead = trusted.key === 'redirect_dir' ? "; only 'nofollow' does not" : ''
    throw invalidArgValue(`${name}.${trusted.key}`, trusted.value, `${needsTrusted}${instead}`)
  }
  const off = findAny(list, turnedOffInside)
  if (off) throw invalidArgValue(`${name}.${off.key}`, off.value, turnsOff)
}

function refuseUnknown(list: PlannedOptions['list'], known: readonly string[], name: string): void {
  for (const option of list) {
    const { key, value, isText } = option
    if (known.includes(value === undefined || isText ? key : `${key}=${value}`)) continue
    if (isText) throw unsupported(`${name}.${key} needs SELinux, which is not enabled on this kernel`)
    const { since } = optionTable[key.replace(/^no/, '') as OptionName]
    throw unsupported(
      `this kernel's overlay does not know ${name}.${showOption(option)} (the option is of Linux ${since})`,
    )
  }
}
