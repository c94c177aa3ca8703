/**
 * Calls with one part of their arguments replaced: every argument, every field of an argument that is an object, every
 * element of one that is a list.
 */
import { type Class, classOf } from './wrong-values.js'

/** A call that would be carried out, and what its parts may be besides what they are. */
export interface Row {
  /** as errors call them */
  readonly names: readonly string[]
  /** anew each time, for what is done may use it up */
  readonly good: () => readonly unknown[]
  readonly run: (...args: never[]) => unknown
  /** classes that a part takes besides that of its good value, in words */
  readonly takes?: Readonly<Record<string, string>>
  /** parts that may not be left out; those that a function counts in its length are found by themselves */
  readonly required?: readonly string[]
  /** it answers a promise, always */
  readonly isAsync?: boolean
}

type Step = string | number
export interface Part {
  /** `options.lowerdir[0]` */
  readonly name: string
  readonly path: readonly Step[]
  readonly takes: ReadonlySet<Class>
}

export const isPlain = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype

/** Every part of the arguments, outermost first. */
export const partsOf = ({ names, good, takes = {}, required = [], run }: Row): Part[] => {
  const parts: Part[] = []
  const add = (value: unknown, name: string, path: readonly Step[]): void => {
    const isLeftOut = path.length > 1 ? typeof path.at(-1) === 'string' : (path[0] as number) >= run.length
    const classes = new Set<Class>([classOf(value), ...((takes[name]?.split(' ') ?? []) as Class[])])
    if (isLeftOut && !required.includes(name)) classes.add('undefined')
    parts.push({ name, path, takes: classes })
    if (Array.isArray(value))
      for (const [i, each] of value.entries()) add(each, `${name}[${i}]`, [...path, i])
    else if (isPlain(value))
      for (const key of Object.keys(value)) add(value[key], `${name}.${key}`, [...path, key])
  }
  for (const [i, value] of good().entries()) add(value, names[i]!, [i])
  return parts
}

/** The arguments with what is at `path` defined anew; nothing of the given ones is changed. */
const replace = (args: unknown, [step, ...rest]: readonly Step[], property: PropertyDescriptor): object => {
  const own: object = Array.isArray(args) ? [...args] : { ...(args as object) }
  const inner = rest.length === 0 ? property : { value: replace(Reflect.get(own, step!), rest, property) }
  return Object.defineProperty(own, step!, { enumerable: true, configurable: true, ...inner })
}

/** The row's arguments, one part of them being `value`. */
export const withValue = (row: Row, { path }: Part, value: unknown): readonly unknown[] =>
  replace(row.good(), path, { value }) as unknown[]

/** The same, of which reading that part runs `get`. */
export const withGetter = (row: Row, { path }: Part, get: () => unknown): readonly unknown[] =>
  replace(row.good(), path, { get }) as unknown[]

/** What a part is in the good arguments. */
export const goodValue = (row: Row, { path }: Part): unknown =>
  path.reduce<unknown>((value, step) => Reflect.get(value as object, step), row.good())

/** What a call comes to: what it answered, or what was thrown; `isThrown`: thrown where a promise was to be rejected. */
export interface Outcome {
  readonly value?: unknown
  readonly error?: unknown
  readonly hasFailed: boolean
  readonly isThrown: boolean
}

export const outcomeOf = async (row: Row, args: readonly unknown[]): Promise<Outcome> => {
  let answer: unknown
  try {
    answer = row.run(...(args as never[]))
  } catch (error) {
    return { error, hasFailed: true, isThrown: true }
  }
  if (row.isAsync !== true) return { value: answer, hasFailed: false, isThrown: false }
  try {
    return { value: await (answer as Promise<unknown>), hasFailed: false, isThrown: false }
  } catch (error) {
    return { error, hasFailed: true, isThrown: false }
  }
}
