/**
 * overlayfd: overlayfs stacks for container root filesystems, composed by file descriptor.
 *
 * The public API and nothing else. What the functions do is in mounter.ts and overlay/.
 */
import { checkFeatures, type Features, features } from './host/features.js'
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
export { Mount } from './mount/mount.js'
export type { AttachOptions, UnmountOptions } from './mount/options.js'
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
 * The plan of `mountOverlay(options)`: rung, cost, notes, each call in strace's notation. Nothing is done and no
 * right is needed. Layers are taken to be directories of one mount, which only opening them can tell.
 *
 * @param how `features`: plan for another kernel · `rung`: force one · default: this kernel, OVERLAYFD_RUNG
 * @throws RungError if no rung can do it · TypeError, RangeError for wrong options
 */
export function explain(
  options: OverlayMountOptions,
  how: { features?: Features; rung?: RungChoice } = {},
): Explanation {
  const spec = parseOverlay(options)
  checkKeys(how, 'how', ['features', 'rung'])
  const rung =
    how.rung === undefined
      ? parseRung(process.env['OVERLAYFD_RUNG'], 'OVERLAYFD_RUNG')
      : parseRung(how.rung, 'how.rung')
  const found = how.features === undefined ? features() : checkFeatures(how.features, 'how.features')
  return explainOverlay(spec, found, rung)
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
