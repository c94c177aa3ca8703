/**
 * Seccomp filters as data: which calls answer which errno, as the filters of container engines do, encoded as a
 * program of classic BPF (seccomp(2)). seccomp.cjs installs it.
 */
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'

/** `[x64, arm64]`; from 424 on all architectures count together. */
const numbers = {
  pivot_root: [155, 41],
  mount: [165, 40],
  umount2: [166, 39],
  fchdir: [81, 50],
  clone: [56, 220],
  prctl: [157, 167],
  unshare: [272, 97],
  setns: [308, 268],
  statx: [332, 291],
  open_tree: [428, 428],
  move_mount: [429, 429],
  fsopen: [430, 430],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fspick: [433, 433],
  clone3: [435, 435],
  openat2: [437, 437],
  mount_setattr: [442, 442],
  statmount: [457, 457],
  listmount: [458, 458],
  open_tree_attr: [467, 467],
} as const satisfies Record<string, readonly [number, number]>

export type CallName = keyof typeof numbers
export type Refusal = 'ENOSYS' | 'EPERM'

const isArm = process.arch === 'arm64'

/** Numbers of the calls on this machine. */
export const callNumbers = Object.fromEntries(
  Object.entries(numbers).map(([name, [x64, arm64]]) => [name, isArm ? arm64 : x64]),
) as Readonly<Record<CallName, number>>

/** One rule of a filter; the first that fits answers. */
export interface Rule {
  readonly call: CallName
  readonly answer: Refusal
  /** only where the first argument has one of these bits */
  readonly flags?: number
}

// linux/bpf_common.h, linux/seccomp.h, linux/audit.h
const [LOAD_WORD, IF_EQUAL, IF_BITS, RETURN] = [0x20, 0x15, 0x45, 0x06]
const [ALLOW, ERRNO, KILL_PROCESS] = [0x7fff0000, 0x00050000, 0x80000000]
const AUDIT_ARCH = isArm ? 0xc00000b7 : 0xc000003e
/** offsets in struct seccomp_data; of an argument the lower half, as both are little-endian */
const [NUMBER, ARCH, FIRST_ARGUMENT] = [0, 4, 16]

type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, value: number]

const instructionsOf = ({ call, answer, flags }: Rule): Instruction[] => {
  const refuse: Instruction = [RETURN, 0, 0, ERRNO | constants.errno[answer]]
  if (flags === undefined) return [[IF_EQUAL, 0, 1, callNumbers[call]], refuse]
  return [
    [IF_EQUAL, 0, 4, callNumbers[call]],
    [LOAD_WORD, 0, 0, FIRST_ARGUMENT],
    [IF_BITS, 0, 1, flags],
    refuse,
    [LOAD_WORD, 0, 0, NUMBER],
  ]
}

/** The program as bytes (struct sock_filter). Calls of another architecture, whose numbers differ, kill. */
export const seccompProgram = (rules: readonly Rule[]): Buffer => {
  const program: Instruction[] = [
    [LOAD_WORD, 0, 0, ARCH],
    [IF_EQUAL, 1, 0, AUDIT_ARCH],
    [RETURN, 0, 0, KILL_PROCESS],
    [LOAD_WORD, 0, 0, NUMBER],
    ...rules.flatMap(instructionsOf),
    [RETURN, 0, 0, ALLOW],
  ]
  const bytes = Buffer.alloc(program.length * 8)
  for (const [i, [code, ifTrue, ifFalse, value]] of program.entries()) {
    bytes.writeUInt16LE(code, i * 8)
    bytes.writeUInt8(ifTrue, i * 8 + 2)
    bytes.writeUInt8(ifFalse, i * 8 + 3)
    bytes.writeUInt32LE(value, i * 8 + 4)
  }
  return bytes
}

/** The module that installs filters, for a child process that does so itself. */
export const seccompModule = fileURLToPath(new URL('seccomp.cjs', import.meta.url))

/** The arguments of node that run a command behind a filter. */
export const behind = (rules: readonly Rule[], command: readonly string[]): string[] => [
  seccompModule,
  seccompProgram(rules).toString('hex'),
  ...command,
]
