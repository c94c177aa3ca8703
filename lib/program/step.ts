/**
 * Steps: what a plan is made of. A step is one system call with its arguments as data.
 *
 * An argument may be a slot: a place for an fd that an earlier step of the same program makes. A step
 * may compare what the call wrote (a statx or statfs buffer) with what the plan expects, or remember a
 * field of it in a register for a later comparison: that is how a plan refuses a directory that was
 * swapped, without anything in the addon knowing what a layer is.
 *
 * Two kinds of steps run after the first failure too: `always` ones (closing, leaving a directory) and
 * `undo` ones, each tied to the step that it takes back.
 */

/** A place for an fd. */
export interface Slot {
  readonly slot: number
  /** how `explain` names it */
  readonly name: string
  /** of an fd taken over: what its close takes down, for the cost model */
  readonly closes?: 'tree' | 'superblock' | undefined
}

/** An fd that the process holds already, with the name `explain` gives it. */
export interface HeldFd {
  readonly fd: number
  readonly name: string
}

/** What differs from run to run of one plan: bytes, or a 64-bit number. the addon puts it in, and `fillStep` of fill.ts for people. */
export interface Hole {
  readonly hole: number
  /** how `explain` names it */
  readonly name: string
}
/** What fills a hole: a text without a NUL, or a number. */
export type Fill = Uint8Array | string | bigint

/** A 64-bit field of a result, remembered for a later step of the same program. */
export interface Register {
  readonly register: number
  readonly name: string
}

export type FdArg = Slot | HeldFd
/** Bytes with fd numbers set in, in decimal: `/proc/self/fd/` + slot. */
export type TextPart = Uint8Array | string | FdArg | Hole
export type Text = Uint8Array | string | Hole | readonly TextPart[]
/** A path that is known, or will be when the plan is run. */
export type PathText = Buffer | Hole

export interface MountAttrArg {
  readonly set: number
  readonly clear: number
  readonly propagation: number
  readonly userns: FdArg | undefined
}

export interface IntArg {
  readonly kind: 'int'
  readonly value: number | bigint | Hole
  /** families of flags that it is made of, by their prefixes; `'0'` for a file mode */
  readonly flags?: string | undefined
  /** the C name of the whole value */
  readonly symbol?: string
}

export type Arg =
  | { readonly kind: 'fd'; readonly fd: FdArg }
  | IntArg
  | { readonly kind: 'text'; readonly text: Text }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'null' }
  | { readonly kind: 'mount_attr'; readonly attr: MountAttrArg }
  | { readonly kind: 'open_how'; readonly flags: number; readonly mode: number; readonly resolve: number }
  | { readonly kind: 'out'; readonly what: OutBuffer }

/** Buffers that the kernel fills; the addon supplies them. */
export type OutBuffer = 'statx' | 'statfs'

/** A field of a result buffer: where it stands and how wide it is. */
export interface Field {
  readonly offset: number
  readonly width: 2 | 4 | 8
  readonly name: string
}

/** `(field & mask) == value`; a register in place of the value compares with what it remembers, a hole with what fills it. */
export interface Expectation {
  readonly field: Field
  readonly mask?: bigint
  readonly value: bigint | Register | Hole
}

/** What of the caller's spec a step is about: errors name it. */
export interface Subject {
  /** option of the spec: lowerdir, upperdir, workdir, target, … */
  readonly option: string
  readonly index?: number
  readonly path?: Uint8Array | string | undefined
  /** what will be its path when the plan is run */
  readonly hole?: Hole
}

export interface Step {
  readonly call: CallName
  readonly args: readonly Arg[]
  /** where the fd that the call returns goes */
  readonly out?: Slot
  /** when it runs: in order until the first failure, after a failure, or at the end whatever happened */
  readonly when?: 'main' | 'undo' | 'always'
  /** it runs only if that earlier step did its work, and found what it expected (a tolerated errno is not that) */
  readonly ifDone?: Step
  /** errnos that are as good as success, such as EEXIST of a mkdir */
  readonly tolerate?: readonly number[]
  readonly expect?: readonly Expectation[]
  readonly remember?: readonly { readonly field: Field; readonly register: Register }[]
  /** hand the filled buffer back to JS; of a call that fills none, its result as a 64-bit number */
  readonly report?: boolean
  /** something becomes visible here: from this step on an abort comes too late */
  readonly commits?: boolean
  /** the thread is where it belongs from here on, whatever moved it: without such a step it serves no other program */
  readonly home?: boolean
  /** whoever waits for the program gets its result here; the rest runs on */
  readonly answers?: boolean
  /** a statx of the mount that the program makes: what its claim is for */
  readonly identifies?: boolean
  /**
   * takes a superblock down if nothing else holds it, one more grace period: an unmount, the close after it, or a
   * creation that is made to fail
   */
  readonly endsSuperblock?: boolean
  /** an unlinkat of a directory that is a mount point in another mount namespace: it takes down what is there */
  readonly unmounts?: boolean
  readonly subject?: Subject
}

/**
 * The calls a program may make, in the order of native/calls.cc's table (a test compares them).
 * Letters are the arguments' kinds: f fd, i integer, v integer or fd, p text, P text or null, b bytes and
 * their number, a struct mount_attr and its size, h struct open_how and its size, x statx buffer,
 * s statfs buffer. `userns` and the `fsids` are several calls each:
 * native/userns.h and native/fsids.h list them. `claim` is a statx whose directory becomes the program's own,
 * EBUSY if another has it; the three after it are no calls of the kernel (native/claims.h).
 */
export const calls = {
  openat: 'fpii',
  openat2: 'fph',
  close: 'f',
  fsopen: 'pi',
  fsconfig: 'fiPPv',
  fsmount: 'fii',
  open_tree: 'fpi',
  open_tree_attr: 'fpia',
  move_mount: 'fpfpi',
  mount_setattr: 'fpia',
  mount: 'PpPiP',
  umount2: 'pi',
  statx: 'fpiix',
  fstatfs: 'fs',
  fchdir: 'f',
  chdir: 'p',
  mkdirat: 'fpi',
  unlinkat: 'fpi',
  fchownat: 'fpiii',
  fchmodat: 'fpi',
  lsetxattr: 'ppbi',
  assume_fsids: 'ii',
  restore_fsids: 'ii',
  userns: 'pp',
  inotify_add_watch: 'fpi',
  claim: 'fx',
  retire_claim: 'i',
  restore_claim: 'i',
  drop_claim: 'i',
  setns: 'fi',
  unshare: 'i',
  pivot_root: 'pp',
  chroot: 'p',
  fcntl: 'fii',
  fspick: 'fpi',
} as const
export type CallName = keyof typeof calls

/** Fields of struct statx (statx(2)) and of 64-bit struct statfs (statfs(2)). */
export const statxField = {
  nlink: { offset: 16, width: 4, name: 'stx_nlink' },
  uid: { offset: 20, width: 4, name: 'stx_uid' },
  gid: { offset: 24, width: 4, name: 'stx_gid' },
  mode: { offset: 28, width: 2, name: 'stx_mode' },
  attributes: { offset: 8, width: 8, name: 'stx_attributes' },
  ino: { offset: 32, width: 8, name: 'stx_ino' },
  size: { offset: 40, width: 8, name: 'stx_size' },
  /** seconds; nanoseconds are a field of their own */
  ctime: { offset: 96, width: 8, name: 'stx_ctime.tv_sec' },
  ctimeNanoseconds: { offset: 104, width: 4, name: 'stx_ctime.tv_nsec' },
  /** major and minor number as one field */
  dev: { offset: 136, width: 8, name: 'stx_dev' },
  mountId: { offset: 144, width: 8, name: 'stx_mnt_id' },
} as const satisfies Record<string, Field>

export const statfsField = {
  type: { offset: 0, width: 8, name: 'f_type' },
  flags: { offset: 80, width: 8, name: 'f_flags' },
} as const satisfies Record<string, Field>

export const isSlot = (fd: FdArg | Hole): fd is Slot => 'slot' in fd
export const isHole = (value: unknown): value is Hole =>
  typeof value === 'object' && value !== null && 'hole' in value

/** What a step is about, by a path that may be a hole. */
export const about = (option: string, path: PathText | undefined): Subject =>
  isHole(path) ? { option, hole: path } : { option, path }
