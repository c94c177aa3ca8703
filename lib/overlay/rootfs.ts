/** The handle of a root filesystem. */
import { Mount } from '../mount/mount.js'

/**
 * A mounted root filesystem. Made by `mountOverlay` and `LayerStack.mount`.
 *
 * It does not keep the process alive, and an attached mount outlives handle and process. A detached
 * mount lives as long as its fd: dropping the handle takes it down, with a warning.
 */
export class Rootfs extends Mount {}
