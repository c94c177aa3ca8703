/**
 * What a plan says that a mount will be, read from its steps as a reader of strace would: which calls make the mount, with
 * what attributes, options and propagation, and where it is attached.
 */
import * as f from '../../lib/flags.js'
import type { Explanation } from '../../lib/index.js'
import type { Arg, FdArg, Step, Text } from '../../lib/program/step.js'

export interface Said {
  /** `overlay`, `tmpfs`, or that of what is cloned */
  type: string
  /** `key=value` or `key` of the superblock, layers left out */
  options: string[]
  /** MOUNT_ATTR_* */
  attributes: number
  /** what becomes of its propagation, in order: a clone begins as its source is, an attach shares it below a shared parent */
  propagation: (number | 'clone' | 'attach')[]
  /** where it is attached: undefined if nowhere, or if an fd says where */
  target: string | undefined
  /** of the mounts below what is cloned: they come with it, and change as this says */
  inner: Pick<Said, 'attributes' | 'propagation'> | undefined
  /** mount(2) makes the superblock read-only too */
  isSuperReadOnly: boolean
}

const places = new Set(['lowerdir', 'lowerdir+', 'datadir', 'datadir+', 'upperdir', 'workdir', 'source'])

const textOf = (text: Text): string =>
  typeof text === 'string'
    ? text
    : text instanceof Uint8Array
      ? Buffer.from(text).toString('latin1')
      : 'hole' in text
        ? `{${text.name}}`
        : text
            .map((part) =>
              typeof part === 'string' || part instanceof Uint8Array ? textOf(part) : `{${part.name}}`,
            )
            .join('')
const wordOf = (arg: Arg | undefined): string | undefined =>
  arg?.kind === 'text' ? textOf(arg.text) : undefined
const numberOf = (arg: Arg | undefined): number => {
  if (arg?.kind !== 'int') throw new Error(`no number: ${arg?.kind}`)
  return Number(arg.value)
}
const fdOf = (arg: Arg | undefined): FdArg => {
  if (arg?.kind !== 'fd') throw new Error(`no fd: ${arg?.kind}`)
  return arg.fd
}

/** Pairs of MS_* and MOUNT_ATTR_*. */
const attributeOf = [
  [f.MS_RDONLY, f.MOUNT_ATTR_RDONLY],
  [f.MS_NOSUID, f.MOUNT_ATTR_NOSUID],
  [f.MS_NODEV, f.MOUNT_ATTR_NODEV],
  [f.MS_NOEXEC, f.MOUNT_ATTR_NOEXEC],
  [f.MS_NODIRATIME, f.MOUNT_ATTR_NODIRATIME],
  [f.MS_NOSYMFOLLOW, f.MOUNT_ATTR_NOSYMFOLLOW],
  [f.MS_NOATIME, f.MOUNT_ATTR_NOATIME],
  [f.MS_STRICTATIME, f.MOUNT_ATTR_STRICTATIME],
] as const
const ofMs = (flags: number): number =>
  attributeOf.reduce((sum, [ms, attr]) => sum | ((flags & ms) === 0 ? 0 : attr), 0)
const propagations = f.MS_SHARED | f.MS_PRIVATE | f.MS_SLAVE | f.MS_UNBINDABLE

const slotOf = (arg: Arg | undefined): number => {
  const fd = fdOf(arg)
  return 'slot' in fd ? fd.slot : -1
}

/** open_tree_attr or mount_setattr, of all that is cloned or of its top alone. */
const change = (mount: Said | undefined, args: readonly Arg[]): void => {
  const arg = args[3]
  if (mount === undefined || arg?.kind !== 'mount_attr') return
  const { set, clear, propagation } = arg.attr
  const isRecursive = (numberOf(args[2]) & f.AT_RECURSIVE) !== 0
  for (const each of isRecursive ? [mount, mount.inner] : [mount]) {
    if (each === undefined) continue
    each.attributes = (each.attributes & ~clear) | set
    if (propagation !== 0) each.propagation.push(propagation)
  }
}

export interface Known {
  /** type of what is cloned, whose mount has no attributes set */
  readonly cloned: string
  /** MOUNT_ATTR_* of the trees that an open stack keeps: how they are made is not in the plans of its mounts */
  readonly ofTrees: number
}

/** What plans say, one after the other: the later ones use trees that the earlier ones make. */
class Reader {
  readonly attached: Said[] = []
  /** what a plan hands out without having attached it */
  readonly detached: Said[] = []
  readonly #known: Known
  /** MOUNT_ATTR_*, by the names of fds */
  readonly #trees = new Map<string, number>()
  #contexts = new Map<number, Pick<Said, 'type' | 'options'>>()
  #made = new Map<number, Said>()
  /** by mount(2) */
  #visible: Said | undefined

  constructor(known: Known) {
    this.#known = known
  }

  read({ steps, outputs }: Explanation['plans'][number]): void {
    this.#contexts = new Map()
    this.#made = new Map()
    this.#visible = undefined
    for (const step of steps) if (step.when !== 'undo') this.#step(step)
    for (const { slot, name } of outputs) {
      const mount = this.#made.get(slot)
      if (mount === undefined) continue
      if (name === 'mount') this.detached.push(mount)
      else this.#trees.set(name, mount.attributes)
    }
  }

  #fresh(over: Partial<Said>): Said {
    return {
      type: this.#known.cloned,
      options: [],
      attributes: 0,
      propagation: [],
      target: undefined,
      inner: undefined,
      isSuperReadOnly: false,
      ...over,
    }
  }

  #step({ call, args, out }: Step): void {
    if (call === 'fsopen') this.#contexts.set(out!.slot, { type: wordOf(args[0])!, options: [] })
    if (call === 'fsconfig') this.#configure(args)
    if (call === 'fsmount') {
      const made = { ...this.#contexts.get(slotOf(args[0]))!, attributes: numberOf(args[2]) }
      this.#made.set(out!.slot, this.#fresh(made))
    }
    if (call === 'open_tree' || call === 'open_tree_attr') this.#clone(args, out!.slot)
    if (call === 'mount_setattr') change(this.#made.get(slotOf(args[0])), args)
    if (call === 'move_mount') this.#attach(args)
    if (call === 'mount') this.#mount(args)
  }

  #configure(args: readonly Arg[]): void {
    const [key, value] = [wordOf(args[2]), wordOf(args[3])]
    if (key === undefined || places.has(key)) return
    this.#contexts.get(slotOf(args[0]))!.options.push(value === undefined ? key : `${key}=${value}`)
  }

  /** Of what mount(2) has just made where nobody sees it, of a tree, or of a directory. */
  #clone(args: readonly Arg[], slot: number): void {
    const visible = this.#visible
    let clone: Said
    if (wordOf(args[1]) !== '' && visible?.target?.startsWith('/{')) {
      this.attached.splice(this.attached.indexOf(visible), 1)
      clone = { ...visible, target: undefined, propagation: [] }
    } else {
      const { name } = fdOf(args[0])
      const isTree = name.startsWith('tree of ')
      const attributes = isTree ? (this.#trees.get(name) ?? this.#known.ofTrees) : 0
      const isRecursive = (numberOf(args[2]) & f.AT_RECURSIVE) !== 0
      const inner = isRecursive ? { attributes: 0, propagation: ['clone' as const] } : undefined
      // the trees are in no peer group
      clone = this.#fresh({ attributes, propagation: isTree ? [] : ['clone'], inner })
    }
    this.#made.set(slot, clone)
    change(clone, args)
  }

  #attach(args: readonly Arg[]): void {
    const mount = this.#made.get(slotOf(args[0]))
    const to = fdOf(args[2])
    // nobody sees what is in there
    if (mount === undefined || to.name === 'staging root') return
    mount.target = 'fd' in to && to.fd === f.AT_FDCWD ? wordOf(args[3]) : undefined
    for (const each of [mount, mount.inner]) each?.propagation.push('attach')
    this.attached.push(mount)
  }

  #mount(args: readonly Arg[]): void {
    const [type, flags] = [wordOf(args[2]), numberOf(args[3])]
    const isRecursive = (flags & f.MS_REC) !== 0
    const propagation = flags & propagations
    if (propagation !== 0) {
      this.#visible!.propagation.push(propagation)
      if (isRecursive) this.#visible!.inner?.propagation.push(propagation)
    } else if ((flags & f.MS_REMOUNT) !== 0) {
      this.#visible!.attributes = ofMs(flags)
    } else {
      const options = (wordOf(args[4]) ?? '').split(',').filter((each) => each !== '')
      this.#visible = this.#fresh({
        ...(type === undefined
          ? { propagation: ['clone', 'attach'] }
          : { type, propagation: ['attach'], attributes: ofMs(flags) }),
        target: wordOf(args[1]),
        inner: isRecursive ? { attributes: 0, propagation: ['clone', 'attach'] } : undefined,
        options: options.filter((each) => !places.has(each.split('=')[0]!)),
        isSuperReadOnly: type !== undefined && (flags & f.MS_RDONLY) !== 0,
      })
      this.attached.push(this.#visible)
    }
  }
}

/** The mounts that an explanation says will be there. */
export const said = ({ plans }: Explanation, known: Known): Pick<Reader, 'attached' | 'detached'> => {
  const reader = new Reader(known)
  for (const plan of plans) reader.read(plan)
  return reader
}

/** As mountinfo writes them. */
export const attributeWords = (attributes: number): string[] => {
  const has = (bit: number, word: string) => ((attributes & bit) === 0 ? [] : [word])
  const atime = attributes & f.MOUNT_ATTR__ATIME
  return [
    (attributes & f.MOUNT_ATTR_RDONLY) === 0 ? 'rw' : 'ro',
    ...has(f.MOUNT_ATTR_NOSUID, 'nosuid'),
    ...has(f.MOUNT_ATTR_NODEV, 'nodev'),
    ...has(f.MOUNT_ATTR_NOEXEC, 'noexec'),
    ...(atime === f.MOUNT_ATTR_NOATIME ? ['noatime'] : []),
    ...has(f.MOUNT_ATTR_NODIRATIME, 'nodiratime'),
    ...(atime === 0 ? ['relatime'] : []),
    ...has(f.MOUNT_ATTR_NOSYMFOLLOW, 'nosymfollow'),
    ...has(f.MOUNT_ATTR_IDMAP, 'idmapped'),
  ].sort()
}

/** As mountinfo writes it, below a parent and of a source that are shared or not. */
export const propagationWords = (
  { propagation }: Pick<Said, 'propagation'>,
  { parent, source }: { readonly parent: boolean; readonly source: boolean },
): string[] => {
  let now = { isShared: false, hasPeers: false, isSlave: false, isUnbindable: false }
  const none = now
  for (const step of propagation) {
    if (step === 'clone') now = { ...none, isShared: source, hasPeers: source }
    else if (step === 'attach') now = { ...now, isShared: now.isShared || parent }
    else if (step === f.MS_SHARED) now = { ...now, isShared: true }
    // a slave of nobody is private
    else if (step === f.MS_SLAVE) now = { ...none, isSlave: now.isSlave || now.hasPeers }
    else now = { ...none, isUnbindable: step === f.MS_UNBINDABLE }
  }
  const { isShared, isSlave, isUnbindable } = now
  return [
    ...(isShared ? ['shared'] : []),
    ...(isSlave ? ['master'] : []),
    ...(isUnbindable ? ['unbindable'] : []),
  ]
}
