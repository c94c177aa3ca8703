/**
 * The writable half of a mount as steps: directories made, opened, given to the right owner, idmapped.
 *
 *   create      mkdirat of what is missing, no mode   undone by unlinkat, only of what was made
 *   open        openat of upperdir and workdir
 *   check       what was just made must be what is open: it has no mode yet. What else stands at the name by now is
 *               left as it is
 *   finish      a new upper gets owner, attributes and, last, its mode: one without the owner's right to enter was
 *               left by a process that was killed in between, and is not taken for finished
 *   claim       refused if another mount of the process has one of them; before the check, for that one may have
 *               finished it, and before anything is done to them
 *   shifted     fchownat of the upper's top
 *   idmapped    a clone of the directory above both, idmapped as the layers are; both are opened again
 *               below it and must be the same directories
 *   staged      the same clone, idmapped or not, for a rung that attaches it elsewhere
 */
import { invalidArgValue } from '../errors.js'
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import type { Idmap } from '../idmap.js'
import * as c from '../program/calls.js'
import { cwd, type PlanBuilder } from '../program/plan.js'
import {
  about,
  type Expectation,
  type FdArg,
  isHole,
  type PathText,
  type Slot,
  type Step,
  statxField,
} from '../program/step.js'
import { isAcl, shiftAcl } from './acl.js'
import { outOfPeerGroup } from './attributes.js'
import { ancestors, commonParent, lastName, relativeTo } from './bytes.js'
import { type Remembered, remembered } from './identity.js'
import { directoryFlags, type TopAttributes } from './layers.js'
import { idsOnDisk, mappedIds, type Owner, ownerOnDisk } from './owner.js'
import type { Planned } from './spec.js'
import { cloneWith } from './trees.js'

export interface Upper {
  readonly upper: Slot
  readonly work: Slot
  /** of `'idmapped'` and of staged rungs: the tree that both lie in, to be closed after the mount was made */
  readonly tree: Slot | undefined
}

export interface UpperInput {
  readonly spec: Planned
  readonly idmap: Idmap | undefined
  /** the namespace of `idmap`, if an fd of it is there already or will be */
  readonly userns: () => FdArg
  readonly top: TopAttributes
  readonly features: Features
  /** with `create`, make the directories above too: tried only once one was found missing */
  readonly parents: boolean
  /** with `create`, finish an upper that was found unfinished */
  readonly unfinished: boolean
  /**
   * they are to be reached through a clone of the directory above both, made without open_tree_attr; a private one if
   * anything will be mounted on it: a clone is in the peer group of what it was cloned from
   */
  readonly carried?: 'as it is' | 'private'
}

const targetMode = 0o755
const workMode = 0o711
/** What a directory has not until it is finished: its owner's right to enter. */
const enter = 0o100

/** The steps that made upperdir and workdir, if they were missing. */
export type Made = Readonly<Partial<Record<'upperdir' | 'workdir', Step>>>

/** Steps that make what is missing of upperdir, workdir and target. */
export function createSteps(b: PlanBuilder, { spec, parents }: Pick<UpperInput, 'spec' | 'parents'>): Made {
  if (!spec.create) return {}
  const dirs = [
    { option: 'upperdir', path: spec.upperdir, name: spec.upperName, mode: 0 },
    { option: 'workdir', path: spec.workdir, name: spec.workName, mode: 0 },
    {
      option: 'target',
      path: spec.inside ? undefined : spec.target,
      name: spec.targetName,
      mode: targetMode,
    },
  ]
  const above = new Map<string, Buffer>()
  for (const { path } of dirs) {
    if (path && parents) for (const dir of ancestors(known(path))) above.set(dir.toString('latin1'), dir)
  }
  for (const path of above.values()) {
    b.add(c.mkdir(path, 0o777, { tolerate: [EEXIST], subject: { option: 'create', path } }))
  }
  const steps: Partial<Record<string, Step>> = {}
  for (const { option, path, name, mode } of dirs) {
    if (path === undefined) continue
    const made = c.mkdir(path, mode, { tolerate: [EEXIST], subject: about(option, path) })
    b.add(made)
    const rights = option === 'target' ? noMoreThan(targetMode) : noMode
    undoMade(b, made, path, name ?? lastName(known(path)), rights)
    steps[option] = made
  }
  return steps
}

/**
 * Takes away a directory that was made and that nothing was done to yet: what is opened again here looks as if just made,
 * and no other mount has claimed it since, or it is not ours to remove. By its name in the directory that it really lies
 * in, for the path may lead elsewhere.
 */
function undoMade(b: PlanBuilder, made: Step, path: PathText, name: PathText, rights: Expectation): void {
  const slot = b.slot('made')
  const opened = c.openat(slot, cwd, path, f.O_PATH | f.O_DIRECTORY | f.O_NOFOLLOW)
  const claimed = c.claim(slot, { expect: justMade(rights) })
  b.undoInTurn(made, opened, claimed, rmdirOf(slot, name))
}

/** unlinkat of a directory by its name where it lies, found from an fd of it. */
const rmdirOf = (slot: Slot, name: PathText): Step => c.rmdir(slot, ['../', name])

/** What mkdirat(2) makes: ours, and without directories in it, of which some file systems count one less. */
const justMade = (rights: Expectation): Expectation[] => [
  rights,
  { field: statxField.uid, value: BigInt(process.geteuid?.() ?? 0) },
  { field: statxField.nlink, mask: 0xffff_fffcn, value: 0n },
]

/** A mode that the umask may have taken bits from; a set-group-ID bit comes from the directory above. */
const noMoreThan = (mode: number): Expectation => ({
  field: statxField.mode,
  mask: BigInt(0o5777 & ~mode),
  value: 0n,
})
const noMode = noMoreThan(0)

/** A path that a plan is made for: plans that need to look into it are not made with holes. */
export function known(path: PathText): Buffer {
  if (isHole(path)) throw new Error(`${path.name} is not known yet`)
  return path
}

const EEXIST = 17
const ENOENT = 2

/** Whether a finished upper can be told from an unfinished one. */
const isTold = ({ mode }: TopAttributes): boolean => (mode & enter) !== 0

/** Steps that open upper and work, of which some were `made` if they were missing. */
export function upperSteps(b: PlanBuilder, input: UpperInput, made: Made): Upper | undefined {
  const { spec, features } = input
  if (spec.upperdir === undefined || spec.workdir === undefined) return undefined
  const open = (name: string, path: PathText): Slot => {
    const slot = b.slot(name)
    b.add(c.openat(slot, cwd, path, directoryFlags(features), { subject: about(`${name}dir`, path) }))
    b.always(c.close(slot))
    return slot
  }
  const upper = open('upper', spec.upperdir)
  const work = open('work', spec.workdir)
  b.add(c.claim(upper, { subject: about('upperdir', spec.upperdir) }))
  b.add(c.claim(work, { subject: about('workdir', spec.workdir) }))
  if (made.upperdir) checkMade(b, upper, input, 'upperdir', made.upperdir)
  if (made.workdir) {
    const ifDone = checkMade(b, work, input, 'workdir', made.workdir)
    b.add(c.chmod(['/proc/self/fd/', work], workMode, { ifDone, subject: about('workdir', spec.workdir) }))
  }
  if (spec.upper === 'shifted') chownUpper(b, upper, input, ownerOnDisk(idsOnDisk(spec, input.idmap), 0, 0))
  if (made.upperdir) finish(b, upper, input, made.upperdir)
  if (spec.options.resetVolatile) {
    const extra = { tolerate: [ENOENT], subject: { option: 'options.volatile' } }
    b.add(c.unlink(work, 'work/incompat/volatile/dirty', extra))
    b.add(c.rmdir(work, 'work/incompat/volatile', extra))
  }
  if (spec.upper !== 'idmapped' && !input.carried) return { upper, work, tree: undefined }
  return carriedUpper(b, input, upper, work)
}

/**
 * What was made is what is open, or its name leads elsewhere by now: nothing is done to that. Once it is known, it is
 * taken away by its fd; a CREATE that fails late leaves its own directories in the work directory.
 */
function checkMade(
  b: PlanBuilder,
  slot: Slot,
  { spec, features }: UpperInput,
  option: keyof Made,
  made: Step,
): Step {
  const path = spec[option]!
  const [name, own] = option === 'workdir' ? [spec.workName, ['index', 'work']] : [spec.upperName, []]
  const extra = { expect: justMade(noMode), ifDone: made, subject: about(option, path) }
  const checked = c.statxFd(slot, features.uniqueMountId, extra)
  b.add(checked)
  b.undo(checked, ...own.map((each) => c.rmdir(slot, each)), rmdirOf(slot, name ?? lastName(known(path))))
  return checked
}

function carriedUpper(
  b: PlanBuilder,
  { spec, userns, features, carried }: UpperInput,
  upper: Slot,
  work: Slot,
): Upper {
  const paths = [known(spec.upperdir!), known(spec.workdir!)] as const
  const parent = commonParent(paths)
  if (parent === undefined) {
    throw carried
      ? invalidArgValue('options.upperdir', paths[0], "must not hold '..' in a staged rung, nor must workdir")
      : invalidArgValue('options.upper', spec.upper, "needs an upperdir and a workdir without '..'")
  }
  const inode = remembered(b, 'upper')
  const workInode = remembered(b, 'work')
  const subject = about('upperdir', parent)
  b.add(c.statxFd(upper, features.uniqueMountId, { remember: inode.remember }))
  b.add(c.statxFd(work, features.uniqueMountId, { remember: workInode.remember }))
  const above = b.slot('above upper and work')
  const tree = b.slot('upper tree')
  b.add(c.openat(above, cwd, parent, f.O_PATH | f.O_DIRECTORY, { subject }))
  const idmapped = spec.upper === 'idmapped' && { set: f.MOUNT_ATTR_IDMAP, userns: userns() }
  if (carried) {
    b.add(c.cloneTree(tree, above, { subject }))
    const isPrivate = carried === 'private' && { propagation: outOfPeerGroup }
    if (idmapped || isPrivate) b.add(c.mountSetattr(tree, { ...idmapped, ...isPrivate }, { subject }))
    b.always(c.close(tree))
  } else b.add(...cloneWith(tree, above, { ...idmapped }, features.openTreeAttr, { subject }))
  b.always(c.close(above))
  const reopen = (name: string, path: Buffer, { expect }: Remembered): Slot => {
    const slot = b.slot(`carried ${name}`)
    const subject = about(`${name}dir`, path)
    const beneath = f.RESOLVE_BENEATH | f.RESOLVE_NO_SYMLINKS | f.RESOLVE_NO_XDEV
    b.add(
      c.openat2(slot, tree, relativeTo(parent, path), directoryFlags(features), beneath, { subject }),
      c.statxFd(slot, features.uniqueMountId, { expect, subject }),
    )
    b.always(c.close(slot))
    return slot
  }
  return { upper: reopen('upper', paths[0], inode), work: reopen('work', paths[1], workInode), tree }
}

const isFinished: Expectation = { field: statxField.mode, mask: BigInt(enter), value: BigInt(enter) }
const isNotFinished: Expectation = { ...isFinished, value: 0n }

/** Whether a step met an upper that nobody has finished. */
export const isUnfinished = ({ expect }: Step): boolean => expect?.[0] === isFinished

function finish(b: PlanBuilder, upper: Slot, input: UpperInput, made: Step): void {
  const subject = about('upperdir', input.spec.upperdir!)
  const look = (expect: Expectation) =>
    b.add(c.statxFd(upper, input.features.uniqueMountId, { expect: [expect], subject }))
  // it is opened anew: the name may show another one by now
  if (input.unfinished) look(isNotFinished)
  adoptTop(b, upper, input, input.unfinished ? undefined : made)
  if (isTold(input.top)) look(isFinished)
}

/** A new upper looks to the container as the top layer does. `made`: only if that step has made it. */
function adoptTop(b: PlanBuilder, upper: Slot, input: UpperInput, made: Step | undefined): void {
  const { top } = input
  const ifDone = made && { ifDone: made }
  const subject = about('upperdir', input.spec.upperdir!)
  const isRoots = top.uid === 0 && top.gid === 0
  const onDisk = idsOnDisk(input.spec, input.idmap)
  if (input.spec.upper !== 'shifted' || !isRoots) {
    chownUpper(b, upper, input, ownerOnDisk(onDisk, top.uid, top.gid), made)
  }
  for (const [name, value] of top.xattrs) {
    const shifted = isAcl(name) ? shiftAcl(value, onDisk) : value
    b.add(c.lsetxattr(['/proc/self/fd/', upper, '/.'], name, shifted, { ...ifDone, subject }))
  }
  // last, for it says that all is done; mkdir takes the umask's bits away too
  b.add(c.chmod(['/proc/self/fd/', upper], top.mode & 0o7777, { ...ifDone, subject }))
}

function chownUpper(b: PlanBuilder, upper: Slot, { spec }: UpperInput, owner: Owner, ifDone?: Step): void {
  b.add(
    c.fchown(upper, owner.uid, owner.gid, {
      ...(ifDone && { ifDone }),
      subject: about('upperdir', spec.upperdir!),
    }),
  )
}

/**
 * CREATE for an idmapped upper: overlay keeps the credentials of whoever creates it, and those must be
 * mapped ones, or it cannot prepare the work directory and comes up read-only without an error
 * (seen on Linux 6.18).
 */
export function asMappedRoot(b: PlanBuilder, idmap: Idmap, create: Step): void {
  const ids = mappedIds(idmap, 'options.upper', 'idmapped')
  const { uid, gid } = ownerOnDisk(ids, 0, 0)
  const assume = c.assumeFsids(uid, gid, { subject: { option: 'options.upper' } })
  b.add(assume, create)
  b.always(c.restoreFsids(process.geteuid?.() ?? 0, process.getegid?.() ?? 0, { ifDone: assume }))
}
