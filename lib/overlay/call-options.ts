/** The second argument of the calls: whose threads, and a signal. */
import { checkKeys } from '../check.js'
import { invalidArgType } from '../errors.js'

export { checkKeys } from '../check.js'

/** `known` are the names that this call takes; answers what it holds of them. */
export function checkCall<T extends { signal?: AbortSignal; mounter?: unknown }>(
  call: T,
  known: readonly (keyof T & string)[],
): T {
  const given = checkKeys(call, 'call', known)
  const { signal, mounter } = given
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw invalidArgType('call.signal', 'an AbortSignal', signal)
  }
  if (mounter !== undefined && !isMounter(mounter)) throw invalidArgType('call.mounter', 'a Mounter', mounter)
  return given as T
}

/** By what it can do: the Mounter of another copy of this package will do. */
function isMounter(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  return ['mount', 'mountSync', 'open', 'openSync'].every(
    (name) => typeof Reflect.get(value, name) === 'function',
  )
}
