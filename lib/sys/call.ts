/**
 * What every function of lib/sys does: check arguments, then turn a refusal of the kernel into an error.
 *
 * Arguments of another type than documented are a TypeError, numbers that the kernel's type cannot hold
 * a RangeError, both before any call is made. Everything else is for the kernel to judge: bits without a
 * name and paths of any kind pass. Notation is made only for a call that failed.
 */
import { checkKeys } from '../check.js'
import { invalidArgType, outOfRange, SyscallError, type SyscallErrorOptions } from '../errors.js'
import { callNotation } from '../notation.js'

/** Of calls that make an fd. */
export interface FdOptions {
  /** `false`: the fd stays open across exec, and leaks into every child process. Default `true`. */
  cloexec?: boolean | undefined
}

export interface Failure extends Partial<Pick<SyscallErrorOptions, 'path' | 'dest' | 'log' | 'hint'>> {
  readonly syscall: string
  /** the arguments, rendered */
  readonly args: readonly string[]
}

/**
 * The result of a call, or its error thrown.
 *
 * @param result >= 0, or a negative errno
 * @param failure asked only when the call failed
 */
export function check(result: number, failure: (errno: number) => Failure): number {
  if (result >= 0) return result
  const { args, ...rest } = failure(-result)
  throw new SyscallError({ errno: -result, call: callNotation(rest.syscall, ...args), ...rest })
}

const maxInt = 2 ** 31 - 1

/** An fd; with `cwd`, AT_FDCWD (-100) too. */
export function checkFd(fd: number, name: string, options: { cwd?: boolean } = {}): number {
  if (typeof fd !== 'number') throw invalidArgType(name, 'number', fd)
  const isCwd = options.cwd === true && fd === -100
  if (!isCwd && (!Number.isInteger(fd) || fd < 0 || fd > maxInt)) {
    const cwd = options.cwd === true ? ' or AT_FDCWD' : ''
    throw outOfRange(name, `a whole number from 0 to ${maxInt}${cwd}`, fd)
  }
  return fd
}

/** `bits` with the close-on-exec bit of the call, unless the caller said no. */
export function withCloexec(bits: number, cloexecBit: number, options: FdOptions): number {
  const { cloexec = true } = checkKeys(options, 'options', ['cloexec'])
  if (typeof cloexec !== 'boolean') throw invalidArgType('options.cloexec', 'boolean', cloexec)
  return cloexec ? Number(BigInt(bits) | BigInt(cloexecBit)) : bits
}
