/** Arguments that many functions have, checked in one place: objects of named options, and texts. A leaf: everything else may import it. */
import { invalidArgType, invalidArgValue, unknownOption } from './errors.js'

/**
 * The options that an object holds, each read once, so that what was checked is what is used: what is inherited too, for an
 * object may be made of another that has the defaults.
 *
 * @param name what errors call the object
 * @param known the options there are; an enumerable property besides them is refused
 * @throws TypeError for what is no object, and for an option that does not exist
 */
export function checkKeys(
  value: unknown,
  name: string,
  known: readonly string[],
): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
    throw invalidArgType(name, 'an object', value)
  }
  for (const key in value) {
    if (!known.includes(key)) throw unknownOption(`${name}.${key}`, known)
  }
  const found: Record<string, unknown> = {}
  for (const key of known) {
    if (key in value) found[key] = (value as Readonly<Record<string, unknown>>)[key]
  }
  return found
}

/** Of ES2024, and in every runtime that this package is for. */
const isWellFormed = (text: string): boolean => (text as string & { isWellFormed(): boolean }).isWellFormed()

/** A string that the kernel can be given: without a NUL, which would end it, and with a form in UTF-8. */
export function checkText(value: unknown, name: string): string {
  if (typeof value !== 'string') throw invalidArgType(name, 'string', value)
  if (value.includes('\0')) throw invalidArgValue(name, value, 'must not hold a NUL byte')
  if (!isWellFormed(value)) throw invalidArgValue(name, value, 'must not hold a lone surrogate')
  return value
}
