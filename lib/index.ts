/**
 * overlayfd: overlayfs stacks for container root filesystems, composed by file descriptor.
 *
 * The public API and nothing else. What the functions do is in mounter.ts and overlay/.
 */
import { checkFeatures, type Features, features } from './host/features.js'
import { explainBindSpec, explainTmpfsSpec } from './mount/explain.js'
import type { Mount } from './mount/mount.js'
import { type BindOptions, parseBind, parseTmpfsMount, type TmpfsMountOptions } from './mount/spec.js'
import { Mounter } from './mounter.js'
import { checkCall, checkKeys } from './overlay/call-options.js'
import { parseRung, type RungChoice } from './overlay/choose.js'
import { type Explanation, explainOverlay } from './overlay/explanation.js'
import type { Leftover, ReconcileOptions } from './overlay/reconcile.js'
import type { Rootfs } from './overlay/rootfs.js'
import { type OverlayMountOptions, parseOverlay } from './overlay/spec.js'

import type { PathLike } from './path.js'

export { MountError, SyscallError } from './errors.js'
export { type Features, features } from './host/features.js'
export { type Topology, type TopologyOptions, topology } from './host/topology.js'
export type { IdExtent, IdmapOption, OciIdExtent } from './idmap.js'
export type { BindAttributes } from './mount/attributes.js'
export type { ReconfigureOptions } from './mount/change.js'
export type { MountOperation } from './mount/explain-operation.js'
export { Mount } from './mount/mount.js'
export type { AttachOptions, ChangeOptions, UnmountOptions } from './mount/options.js'
export type { Below } from './mount/place.js'
export type { BindOptions, TargetOptions, TmpfsMountOptions } from './mount/spec.js'
export type { TmpfsChange, TmpfsOptions } from './mount/tmpfs-options.js'
export {
  Mounter,
  type MounterOptions,
  type MounterStats,
  type Placement,
  type ThreadStats,
} from './mounter.js'
export type { MountAttributes, Propagation } from './overlay/attributes.js'
export { type RungChoice, RungError, type RungName, rungs } from './overlay/choose.js'
export type { Explanation } from './overlay/explanation.js'
export { type HandoverCode, HandoverError } from './overlay/handover-error.js'
export type { ImageLayer, ImageOptions } from './overlay/image-spec.js'
export type { MountNamespace, NamespaceTarget } from './overlay/inside.js'
export { LayerStack } from './overlay/layer-stack.js'
export { type GroupUnmountOptions, MountGroup } from './overlay/mount-group.js'
export type { OverlayOptions } from './overlay/options.js'
export type { Leftover, MountOwner, ReconcileOptions } from './overlay/reconcile.js'
export { Rootfs } from './overlay/rootfs.js'
export type { LayerSource, OverlayMountOptions, StackMountOptions, StackOptions } from './overlay/spec.js'
export type { PathLike } from './path.js'
export type { Cost } from './program/cost.js'
export type { Plan } from './program/plan.js'
export type { OperationTrace, TracedProgram, TracedStep } from './tracing.js'

/** What every call takes besides its options. */
export interface CallOptions {
  /** whose threads and caches; `Mounter.default` if left out */
  mounter?: Mounter
  /** aborts the call before the attach, never after */
  signal?: AbortSignal
}

/**
 * Composes an overlay from layers and attaches it to `target`; without one it stays detached.
 *
 * One-shot: layers are opened, mounted and closed again. For many mounts of the same layers, open a
 * `LayerStack`. What the calls are, `explain` shows. Linux 5.19 with an idmap; without one, by fd from 6.7 on and
 * by mount(2) before. Needs CAP_SYS_ADMIN in the user namespace of the mount namespace, and with an idmap over the
 * layers' file system.
 *
 * @returns the handle; the mount outlives it once it is attached
 * @throws MountError with the failing call, the kernel's log and a hint; nothing is mounted then · RungError if no
 *   rung can do it here · TypeError, RangeError for wrong options · the signal's reason
 * @see fsopen(2), fsconfig(2), fsmount(2), move_mount(2); Documentation/filesystems/overlayfs.rst
 */
export async function mountOverlay(options: OverlayMountOptions, call: CallOptions = {}): Promise<Rootfs> {
  const { mounter = Mounter.default, signal } = checkCall(call, ['mounter', 'signal'])
  return mounter.mount(options, { signal })
}

/** As `mountOverlay`; blocks. Calls that change nothing of a thread are made on the calling one. */
export function mountOverlaySync(
  options: OverlayMountOptions,
  call: Omit<CallOptions, 'signal'> = {},
): Rootfs {
  const { mounter = Mounter.default } = checkCall(call, ['mounter'])
  return mounter.mountSync(options)
}

/**
 * Binds a directory or file to another place: a clone of its mount, which gets ids and attributes while it is detached
 * and is attached then. It is never visible without them.
 *
 * `open_tree(OPEN_TREE_CLONE)`, `mount_setattr(2)` (from 6.15 on `open_tree_attr(2)` for both), `move_mount(2)`. Without
 * these calls (Linux 5.2, 5.12), and on rung classic, by `mount(MS_BIND)`, which sets attributes by a second call,
 * of one mount only, and does not idmap.
 *
 * @returns the handle; the mount outlives it once it is attached
 * @throws MountError with the failing call and a hint; nothing is mounted then. ENOENT, ENOTDIR: source or target ·
 *   EINVAL: the source's mount is unbindable, of another namespace, or does not support idmaps · EPERM: no CAP_SYS_ADMIN,
 *   over the file system for an idmap · RungError if it cannot be done here · TypeError, RangeError for wrong options ·
 *   the signal's reason
 * @see open_tree(2), mount_setattr(2), move_mount(2); mount(2)
 */
export async function mountBind(options: BindOptions, call: CallOptions = {}): Promise<Mount> {
  const { mounter = Mounter.default, signal } = checkCall(call, ['mounter', 'signal'])
  return mounter.mountBind(options, { signal })
}

/** As `mountBind`; blocks. */
export function mountBindSync(options: BindOptions, call: Omit<CallOptions, 'signal'> = {}): Mount {
  const { mounter = Mounter.default } = checkCall(call, ['mounter'])
  return mounter.mountBindSync(options)
}

/**
 * Makes a tmpfs: `fsopen("tmpfs")`, `fsconfig(2)`, `fsmount(2)`, `move_mount(2)`; before Linux 5.2, and on rung classic,
 * by `mount("tmpfs")`.
 *
 * @returns the handle; the mount outlives it once it is attached
 * @throws as `mountBind`; MountError EINVAL: an option that the kernel refuses (`log` says which)
 * @see tmpfs(5), fsopen(2)
 */
export async function mountTmpfs(options: TmpfsMountOptions = {}, call: CallOptions = {}): Promise<Mount> {
  const { mounter = Mounter.default, signal } = checkCall(call, ['mounter', 'signal'])
  return mounter.mountTmpfs(options, { signal })
}

/** As `mountTmpfs`; blocks. */
export function mountTmpfsSync(
  options: TmpfsMountOptions = {},
  call: Omit<CallOptions, 'signal'> = {},
): Mount {
  const { mounter = Mounter.default } = checkCall(call, ['mounter'])
  return mounter.mountTmpfsSync(options)
}

/** Of `explain`, `explainBind` and `explainTmpfs`: for which kernel, on which rung. */
export interface ExplainOptions {
  /** plan for another kernel; default: what `features()` finds */
  features?: Features
  /** force a rung; default: OVERLAYFD_RUNG, else `'auto'` */
  rung?: RungChoice
}

/**
 * The plan of `mountOverlay(options)`: rung, cost, notes, each call in strace's notation. Nothing is done and no
 * right is needed. Layers are taken to be directories of one mount, which only opening them can tell.
 *
 * @param how `features`: plan for another kernel · `rung`: force one · default: this kernel, OVERLAYFD_RUNG
 * @throws RungError if no rung can do it · TypeError, RangeError for wrong options
 */
export function explain(options: OverlayMountOptions, how: ExplainOptions = {}): Explanation {
  const spec = parseOverlay(options)
  const { found, rung } = parseHow(how)
  return explainOverlay(spec, found, rung)
}

/** The plan of `mountBind(options)`, as `explain` gives that of a rootfs. */
export function explainBind(options: BindOptions, how: ExplainOptions = {}): Explanation {
  const spec = parseBind(options)
  const { found, rung } = parseHow(how)
  return explainBindSpec(spec, found, rung)
}

/** The plan of `mountTmpfs(options)`. */
export function explainTmpfs(options: TmpfsMountOptions = {}, how: ExplainOptions = {}): Explanation {
  const spec = parseTmpfsMount(options)
  const { found, rung } = parseHow(how)
  return explainTmpfsSpec(spec, found, rung)
}

function parseHow(how: ExplainOptions): { found: Features; rung: RungChoice } {
  checkKeys(how, 'how', ['features', 'rung'])
  const rung =
    how.rung === undefined
      ? parseRung(process.env['OVERLAYFD_RUNG'], 'OVERLAYFD_RUNG')
      : parseRung(how.rung, 'how.rung')
  return {
    found: how.features === undefined ? features() : checkFeatures(how.features, 'how.features'),
    rung,
  }
}

/**
 * Lists what processes that have ended left mounted at and below a directory, and takes it down on request.
 *
 * Every overlay that this library makes, and the mount of every group, has a source that names its maker
 * (`overlayfd:PIDNS/PID@START`, see `findmnt`). What is listed has one, and its maker is not known to be alive. A clone
 * of one layer has its layer's source, and is not found. What was left on purpose (`release()`, or a process that
 * mounts and exits), and what another process has taken over (`Rootfs.open`, `Rootfs.fromFd`), looks the same: where
 * there is such, let `unmount` be a function that knows.
 *
 * Taken down are the topmost first, each once its id has shown that it is still the same, as `rootfs.unmount` does it;
 * what this process has opened is left alone. Reads /proc/thread-self/mountinfo on the calling thread.
 *
 * @param dir symbolic links in it are followed
 * @returns one entry for each, in the order in which they are taken down; what could not be is in its `error`
 * @throws ENOENT, ENOTDIR, EACCES of node:fs for `dir` · what `unmount` throws, and then nothing was taken down · the
 *   signal's reason; what has been taken down by then stays so · TypeError
 * @see proc_pid_mountinfo(5), umount2(2)
 */
export async function reconcile(
  dir: PathLike,
  options: ReconcileOptions = {},
  call: CallOptions = {},
): Promise<Leftover[]> {
  const { mounter = Mounter.default, signal } = checkCall(call, ['mounter', 'signal'])
  return mounter.reconcile(dir, options, { signal })
}

/** As `reconcile`; blocks. */
export function reconcileSync(
  dir: PathLike,
  options: ReconcileOptions = {},
  call: Omit<CallOptions, 'signal'> = {},
): Leftover[] {
  const { mounter = Mounter.default } = checkCall(call, ['mounter'])
  return mounter.reconcileSync(dir, options)
}
