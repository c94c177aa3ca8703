/** What the calls of this folder are made of: their arguments, and what each step may have besides. */
import type { Arg, FdArg, Hole, MountAttrArg, Step, Text } from '../step.js'

export type Extra = Omit<Step, 'call' | 'args' | 'out'>

export const fd = (value: FdArg): Arg => ({ kind: 'fd', fd: value })
export const int = (value: number | bigint | Hole, flags?: string): Arg => ({ kind: 'int', value, flags })
export const text = (value: Text): Arg => ({ kind: 'text', text: value })
export const nothing: Arg = { kind: 'null' }
export const attr = (value: Partial<MountAttrArg>): Arg => ({
  kind: 'mount_attr',
  attr: { set: 0, clear: 0, propagation: 0, userns: undefined, ...value },
})
