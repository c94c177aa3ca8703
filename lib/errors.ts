/**
 * The errors that this library throws.
 *
 * Two families. What the kernel refused is a SyscallError: an Error in the shape of node:fs errors
 * (`code`, negative `errno`, `syscall`, `path`, `dest`) that also holds the call with its arguments
 * and the lines that the kernel left in the fs context's log. What the caller got wrong is a
 * TypeError or RangeError with Node's codes, naming the argument, what was expected and what came.
 * A leaf: everything else may import it.
 */
import { inspect } from 'node:util'
import { errnoName, errnoText } from './errno.js'

export interface SyscallErrorOptions {
  /** positive, as errno(3) has it */
  errno: number
  /** name of the system call, as in its manual page */
  syscall: string
  /** the call with its arguments, as strace prints it */
  call: string
  path?: string | Uint8Array | undefined
  dest?: string | Uint8Array | undefined
  /** lines of the fs context's log, without level and newline */
  log?: readonly string[] | undefined
  hint?: string | undefined
  cause?: unknown
}

/** A system call that the kernel refused. */
export class SyscallError extends Error {
  /** `'EINVAL'` and the like */
  readonly code: string
  /** negative, as in node:fs: -22 for EINVAL */
  readonly errno: number
  /** the system call's own name: `'fsconfig'`, `'move_mount'` */
  readonly syscall: string
  /** the call with its arguments, as strace prints it */
  readonly call: string
  /** what the kernel said about it in the fs context's log, oldest first; empty where it has none */
  readonly log: readonly string[]
  /** the path the call was about; `printable` if its bytes are not UTF-8 */
  declare readonly path?: string
  /** the second path of a call that has two */
  declare readonly dest?: string
  /** the likely cause, where one was looked for and found */
  declare readonly hint?: string

  constructor(options: SyscallErrorOptions) {
    const { errno, syscall, call, path, dest, log = [], hint, cause } = options
    const reasons = log.length > 0 ? ` [${log.join('; ')}]` : ''
    const advice = hint === undefined ? '' : ` (hint: ${hint})`
    super(
      `${errnoName(errno)}: ${errnoText(errno)}, ${call}${reasons}${advice}`,
      cause === undefined ? undefined : { cause },
    )
    this.code = errnoName(errno)
    this.errno = -errno
    this.syscall = syscall
    this.call = call
    this.log = [...log]
    if (path !== undefined) this.path = text(path)
    if (dest !== undefined) this.dest = text(dest)
    if (hint !== undefined) this.hint = hint
  }
}
SyscallError.prototype.name = 'SyscallError'

export interface MountErrorOptions extends SyscallErrorOptions {
  step?: number | undefined
  rung?: string | undefined
}

/** A plan that failed: the system call that stopped it, and where in the plan that was. */
export class MountError extends SyscallError {
  /** index of the failing step in the plan's steps, from 0 */
  declare readonly step?: number
  /** the rung the plan was made for */
  declare readonly rung?: string

  constructor(options: MountErrorOptions) {
    super(options)
    if (options.step !== undefined) this.step = options.step
    if (options.rung !== undefined) this.rung = options.rung
  }
}
MountError.prototype.name = 'MountError'

/** The same failure with what was found out about it since. */
export function refine(
  error: MountError,
  found: { hint?: string | undefined; rung?: string | undefined; path?: string | Uint8Array | undefined },
): MountError {
  const { syscall, call, log, step, rung, path, dest, hint } = error
  const known = { errno: -error.errno, syscall, call, log, step, rung, path, dest, hint }
  return new MountError({ ...known, ...found, cause: error.cause })
}

type Coded<E extends Error> = E & { readonly code: string }

function coded<E extends Error>(error: E, code: string): Coded<E> {
  return Object.assign(error, { code })
}

/**
 * An argument of the wrong type: ERR_INVALID_ARG_TYPE.
 *
 * @param name as the caller wrote it, `options.lowerdir[3]`
 * @param expected types, `string or Buffer`; or a phrase that begins with an article, `an array of paths`
 * @param received the value itself
 */
export function invalidArgType(name: string, expected: string, received: unknown): Coded<TypeError> {
  const what = /^(an?|one|either) /.test(expected) ? expected : `of type ${expected}`
  return coded(
    new TypeError(`The "${name}" argument must be ${what}. Received ${say(received, typeAndValue)}`),
    'ERR_INVALID_ARG_TYPE',
  )
}

/**
 * An argument of the right type with a value that cannot be: ERR_INVALID_ARG_VALUE.
 *
 * @param reason goes after the name: `must not hold a NUL byte`
 */
export function invalidArgValue(name: string, received: unknown, reason: string): Coded<TypeError> {
  return coded(
    new TypeError(`The "${name}" argument ${reason}. Received ${long(received)}`),
    'ERR_INVALID_ARG_VALUE',
  )
}

/**
 * A number outside its range: ERR_OUT_OF_RANGE.
 *
 * @param expected `an integer from 0 to 500`, `>= 0`
 */
export function outOfRange(name: string, expected: string, received: unknown): Coded<RangeError> {
  return coded(
    new RangeError(
      `The value of "${name}" is out of range. It must be ${expected}. Received ${long(received)}`,
    ),
    'ERR_OUT_OF_RANGE',
  )
}

/**
 * An option that does not exist: ERR_INVALID_ARG_VALUE, with the nearest one that does.
 *
 * @param name as the caller wrote it, with or without what it is in: `options.lowerDir`
 * @param known the names there are, without what they are in
 */
export function unknownOption(name: string, known: readonly string[]): Coded<TypeError> {
  const nearest = nearestName(name.slice(name.lastIndexOf('.') + 1), known)
  const advice =
    nearest === undefined ? `Known options: ${known.join(', ')}` : `Did you mean ${JSON.stringify(nearest)}?`
  return coded(
    new TypeError(`There is no option ${JSON.stringify(name)}. ${advice}`),
    'ERR_INVALID_ARG_VALUE',
  )
}

/** A handle used when it cannot be, for instance after it was closed: ERR_INVALID_STATE. */
export function invalidState(message: string): Coded<Error> {
  return coded(new Error(`Invalid state: ${message}`), 'ERR_INVALID_STATE')
}

/** The caller went to another mount namespace while a call of his was waiting: it is carried out in neither. */
export const movedOn = (): Coded<Error> =>
  invalidState('the caller has left the mount namespace in which the call began')

/** Something that this kernel was found not to have: ERR_OVERLAYFD_UNSUPPORTED. */
export function unsupported(message: string): Coded<Error> {
  return coded(new Error(message), 'ERR_OVERLAYFD_UNSUPPORTED')
}

/** More mounts wait than `maxQueued` allows: ERR_OVERLAYFD_QUEUE_FULL. */
export function queueFull(mounts: number, free: number, limit: number): Coded<Error> {
  const asked = mounts === 1 ? 'a mount was' : `${mounts} mounts were`
  const advice = mounts > limit ? 'take smaller batches' : 'await mounter.ready()'
  const message = `${asked} started where there is room for ${free}, and options.maxQueued of the Mounter is ${limit}: ${advice}`
  return coded(new Error(message), 'ERR_OVERLAYFD_QUEUE_FULL')
}

/**
 * A path as strace prints it, without the quotes: printable ASCII as it is, everything else escaped as
 * in C, bytes above 126 in octal. Two different paths never look the same.
 */
export function printable(path: string | Uint8Array): string {
  const bytes = typeof path === 'string' ? Buffer.from(path) : path
  let out = ''
  for (const [index, byte] of bytes.entries()) {
    const escaped = escapes.get(byte)
    if (escaped !== undefined) out += escaped
    else if (byte >= 0x20 && byte < 0x7f) out += String.fromCharCode(byte)
    else {
      // a digit that follows would be read as part of a shorter number
      const next = bytes[index + 1] ?? 0
      const digits = byte.toString(8)
      out += `\\${next >= 0x30 && next <= 0x39 ? digits.padStart(3, '0') : digits}`
    }
  }
  return out
}

const escapes = new Map(
  [...'"\\\n\t\v\f\r'].map((char, index) => [char.charCodeAt(0), `\\${'"\\ntvfr'[index]}`]),
)

/** Bytes as a string: what they spell if that is UTF-8, what can be printed of them otherwise. */
function text(path: string | Uint8Array): string {
  if (typeof path === 'string') return path
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(path)
  } catch {
    return printable(path)
  }
}

function typeAndValue(received: unknown): string {
  if (received === undefined || received === null) return String(received)
  if (typeof received === 'function') return received.name === '' ? 'a function' : `function ${received.name}`
  if (typeof received !== 'object') return `type ${typeof received} (${value(received, 28)})`
  const name: unknown = received.constructor?.name
  return typeof name === 'string' && name !== '' ? `an instance of ${name}` : value(received, 28)
}

/** No more than `length` characters of it. */
function value(received: unknown, length: number): string {
  const shown = inspect(received, { depth: 1, customInspect: false, breakLength: Infinity })
  return shown.length > length ? `${shown.slice(0, length)}...` : shown
}

/** What is said of a value; getters and Proxies may throw when they are looked at, which is not what is wrong with it. */
function say(received: unknown, how: (received: unknown) => string): string {
  try {
    return how(received)
  } catch {
    return typeof received === 'function' ? 'a function' : 'an object'
  }
}

const long = (received: unknown): string => say(received, () => value(received, 128))

function nearestName(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined
  let least = Math.min(3, Math.ceil(name.length / 2))
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase())
    if (distance < least) {
      best = candidate
      least = distance
    }
  }
  return best
}

/** Characters to insert, drop or replace to make one of the other (Levenshtein). */
function editDistance(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (const [row, char] of [...from].entries()) {
    const current = [row + 1]
    for (let column = 0; column < to.length; column++) {
      const replaced = (previous[column] ?? 0) + (char === to[column] ? 0 : 1)
      current.push(Math.min(replaced, (previous[column + 1] ?? 0) + 1, (current[column] ?? 0) + 1))
    }
    previous = current
  }
  return previous[to.length] ?? 0
}
