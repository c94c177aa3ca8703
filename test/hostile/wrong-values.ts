/**
 * Values that no caller should give, and what may come of them.
 *
 * Each has a class: what it passes for. A place that takes that class may answer anything that is documented; every
 * other place answers a TypeError or RangeError with a code, which names the place. Those of a class with a `!` are
 * of the right type and can never be right.
 */
import { createContext, runInContext } from 'node:vm'
import { HandoverError, MountError, RungError, SyscallError } from '../../lib/index.js'

export type Class =
  | 'undefined'
  | 'null'
  | 'boolean'
  | 'number'
  | 'number!'
  | 'bigint'
  | 'string'
  | 'string!'
  | 'symbol'
  | 'function'
  | 'array'
  | 'object'
  | 'bytes'
  | 'bytes!'
  | 'trap'

export interface WrongValue {
  readonly name: string
  readonly class: Class
  readonly value: unknown
}

/** What a caller's own code throws: it may come out as it is, and nothing may have been done. */
export class Boom extends Error {}

const explode = (): never => {
  throw new Boom('the caller’s own code failed')
}

/** Every trap of a Proxy throws. */
const trap = <T extends object>(target: T): T =>
  new Proxy(
    target,
    Object.fromEntries(Object.getOwnPropertyNames(Reflect).map((name) => [name, explode])) as ProxyHandler<T>,
  )

const revoked = <T extends object>(target: T): T => {
  const { proxy, revoke } = Proxy.revocable(target, {})
  revoke()
  return proxy
}

const detached = (): Uint8Array => {
  const bytes = new Uint8Array(8).fill(0x61)
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
  return bytes
}

/** Its `length` says another thing than it has. */
const lying = (length: number): Uint8Array =>
  Object.defineProperty(new Uint8Array(8).fill(0x61), 'length', { value: length })

const throwingObject = {
  get constructor() {
    return explode()
  },
  get [Symbol.toStringTag]() {
    return explode()
  },
  get [Symbol.iterator]() {
    return explode()
  },
  toString: explode,
  valueOf: explode,
  toJSON: explode,
  [Symbol.toPrimitive]: explode,
}

const table: Readonly<Record<Class, Readonly<Record<string, unknown>>>> = {
  undefined: { undefined },
  null: { null: null },
  boolean: { true: true },
  // so high that it is no fd of ours
  number: { 'a number': 1_073_741_823 },
  'number!': { NaN, '1.5': 1.5, Infinity, '-Infinity': -Infinity, '2^64': 2 ** 64, '-2^53': -(2 ** 53) },
  bigint: { '7n': 7n, '2n ** 80n': 2n ** 80n },
  string: { 'a word': 'nonsense' },
  'string!': { 'a NUL in it': 'before\0after', 'a lone surrogate': 'before\ud800after' },
  symbol: { symbol: Symbol('wrong'), 'Symbol.iterator': Symbol.iterator },
  function: { arrow: () => {}, class: class Wrong {}, 'no name': (() => () => {})() },
  array: {
    '[]': [],
    '[[]]': [[]],
    holes: new Array(3),
    '[undefined]': [undefined],
    long: Array(1000).fill(NaN),
  },
  object: {
    '{}': {},
    'no prototype': Object.create(null),
    'nothing known': { nonsense: 1 },
    'nothing known, inherited': Object.create({ nonsense: 1 }),
    Date: new Date(0),
    Map: new Map([['mode', 7]]),
    Promise: Promise.resolve(7),
    Error: new Error('wrong'),
    'boxed string': new String('nonsense'),
    'boxed number': new Number(7),
    ArrayBuffer: new ArrayBuffer(8),
    SharedArrayBuffer: new SharedArrayBuffer(8),
    DataView: new DataView(new ArrayBuffer(8)),
    Uint16Array: new Uint16Array([0x6161]),
    'a Proxy': new Proxy({}, {}),
  },
  bytes: {
    bytes: new Uint8Array([0x6e, 0x6f]),
    'not UTF-8': Buffer.from([0xff, 0xfe]),
    'of shared memory': new Uint8Array(new SharedArrayBuffer(4)).fill(0x61),
    'of another realm': runInContext('new Uint8Array([0x61, 0x62])', createContext()),
    'said to be longer': lying(2 ** 20),
    'said to be shorter': lying(2),
    'said to be NaN': lying(NaN),
  },
  'bytes!': { 'bytes with a NUL': new Uint8Array([0x61, 0, 0x62]), 'detached bytes': detached() },
  trap: {
    'throws at every touch': trap({}),
    'an array that throws': trap([]),
    'bytes that throw': trap(new Uint8Array(2)),
    'a function that throws': trap(() => {}),
    // their length throws a TypeError
    'not really bytes': Object.create(Uint8Array.prototype),
    'a Proxy of bytes': new Proxy(new Uint8Array([0x61]), {}),
    revoked: revoked({}),
    'a revoked array': revoked([]),
    'throwing getters': throwingObject,
  },
}

export const wrongValues: readonly WrongValue[] = Object.entries(table).flatMap(([kind, values]) =>
  Object.entries(values).map(([name, value]) => ({ name, class: kind as Class, value })),
)

export const classOf = (value: unknown): Class => {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  if (value instanceof Uint8Array) return 'bytes'
  return typeof value
}

const codes = /^ERR_(INVALID_ARG_TYPE|INVALID_ARG_VALUE|OUT_OF_RANGE)$/

const codeOf = (error: unknown): string => String((error as { code?: unknown }).code)

/** A wrong argument, named: TypeError or RangeError with a code of Node's. */
export const isRefusal = (error: unknown, name: string): boolean =>
  (error instanceof TypeError || error instanceof RangeError) &&
  codes.test(codeOf(error)) &&
  error.message.includes(`"${name}`)

/** Any error that docs/errors.md has. */
export const isDocumented = (error: unknown): boolean =>
  error instanceof SyscallError ||
  error instanceof MountError ||
  error instanceof RungError ||
  error instanceof HandoverError ||
  (error instanceof Error &&
    /^(ERR_OVERLAYFD_\w+|ERR_INVALID_STATE|ENOENT|ENOTDIR|EACCES)$/.test(codeOf(error))) ||
  (error instanceof Error && codes.test(codeOf(error)))
