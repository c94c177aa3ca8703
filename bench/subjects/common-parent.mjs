/**
 * The better way of the container runtimes, by the same calls from JavaScript: one idmapped bind mount of the layers'
 * common parent, attached to a temporary directory, mount(2) of the overlay with names below it, and its umount. The
 * C floor has it as variant b.
 */
import { runtimeWay } from '../support/runtime-way.mjs'

export const commonParent = runtimeWay(
  'common-parent (sys)',
  'the calls of floor/b, by overlayfd/sys',
  ({ sys, attr, scratch, lowerdir }) => {
    const parent = scratch.path('layers')
    const bind = scratch.mkdir('bind')
    return {
      directory: bind,
      names: lowerdir.map((layer) => layer.slice(parent.length + 1)),
      attach() {
        const treeFd = sys.openTree(sys.AT_FDCWD, parent, sys.OPEN_TREE_CLONE)
        sys.mountSetattr(treeFd, '', sys.AT_EMPTY_PATH, attr)
        sys.moveMount(treeFd, '', sys.AT_FDCWD, bind, sys.MOVE_MOUNT_F_EMPTY_PATH)
        sys.close(treeFd)
      },
      detach: () => sys.umount(bind),
    }
  },
)
