/** The second argument of the calls: whose threads, and a signal. Checked in one place. */
import { invalidArgType, unknownOption } from '../errors.js'

/** `known` are the names that this call takes; answers the argument itself. */
export function checkCall<T extends { signal?: AbortSignal; mounter?: unknown }>(
  call: T,
  known: readonly (keyof T & string)[],
): T {
  if (typeof call !== 'object' || call === null) throw invalidArgType('call', 'an object', call)
  for (const key of Object.keys(call)) {
    if (!known.some((name) => name === key)) throw unknownOption(`call.${key}`, known)
  }
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
