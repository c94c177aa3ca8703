/**
 * Small things that the tests of lib/sys share: fds closed in teardown, errors as values.
 */
import { close, SyscallError } from '../../lib/sys.js'

/** Closes an fd when the test is over; EBADF then is a failure of the test. */
export const owned = (t: { teardown(undo: () => void): void }, fd: number): number => {
  t.teardown(() => close(fd))
  return fd
}

/** What a call throws. */
export const captured = (call: () => unknown): unknown => {
  try {
    call()
  } catch (error) {
    return error
  }
  throw new Error('the call did not fail')
}

/** The SyscallError that a call throws. */
export const refusal = (call: () => unknown): SyscallError => {
  const error = captured(call)
  if (error instanceof SyscallError) return error
  throw error
}
