/** Arguments that are objects, checked in one place; among them the second one of the calls: whose threads, and a signal. */
import { invalidArgType, unknownOption } from '../errors.js'

/** An object that holds nothing but `known`; `name` is what errors call it. */
export function checkKeys(
  value: unknown,
  name: string,
  known: readonly string[],
): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidArgType(name, 'an object', value)
  }
  // what is inherited is read too
  for (const key in value) {
    if (!known.includes(key)) throw unknownOption(`${name}.${key}`, known)
  }
  return value as Readonly<Record<string, unknown>>
}

/** `known` are the names that this call takes; answers the argument itself. */
export function checkCall<T extends { signal?: AbortSignal; mounter?: unknown }>(
  call: T,
  known: readonly (keyof T & string)[],
): T {
  checkKeys(call, 'call', known)
  const { signal, mounter } = call
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw invalidArgType('call.signal', 'an AbortSignal', signal)
  }
  if (mounter !== undefined && !isMounter(mounter)) throw invalidArgType('call.mounter', 'a Mounter', mounter)
  return call
}

/** By what it can do: the Mounter of another copy of this package will do. */
function isMounter(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  return ['mount', 'mountSync', 'open', 'openSync'].every(
    (name) => typeof Reflect.get(value, name) === 'function',
  )
}
