/**
 * The way of the container runtimes of 2025, by the same calls from JavaScript: one idmapped bind mount per layer,
 * attached to a temporary directory, mount(2) of the overlay over these, and an umount of each. The C floor has it as
 * variant a.
 */
import { runtimeWay } from '../support/runtime-way.mjs'

export const perLayer = runtimeWay(
  'per-layer (sys)',
  'the calls of floor/a, by overlayfd/sys',
  ({ sys, attr, scratch, lowerdir }) => {
    const binds = scratch.path('binds')
    const names = lowerdir.map((_, n) => String(n))
    const at = names.map((name) => scratch.mkdir('binds', name))
    return {
      directory: binds,
      names,
      attach() {
        for (const [n, layer] of lowerdir.entries()) {
          const treeFd = sys.openTree(sys.AT_FDCWD, layer, sys.OPEN_TREE_CLONE)
          sys.mountSetattr(treeFd, '', sys.AT_EMPTY_PATH, attr)
          sys.moveMount(treeFd, '', sys.AT_FDCWD, at[n], sys.MOVE_MOUNT_F_EMPTY_PATH)
          sys.close(treeFd)
        }
      },
      detach() {
        for (const path of at) sys.umount(path, sys.MNT_DETACH)
      },
    }
  },
)
