/**
 * Overlay options inside a user namespace: where to keep marks. What cannot be had there is in the table of options
 * (`takesTrusted`, `turnedOffInside`).
 *
 * Overlay's marks (opaque directories, origins) are trusted.overlay.* attributes, which take CAP_SYS_ADMIN in the
 * initial user namespace. Elsewhere the mount succeeds without them and degrades: `rm -r` of a layer's directory is
 * EIO, redirect_dir is nofollow and uuid null (Linux 6.18; a line in the kernel log says "try mounting with
 * 'userxattr' option"). So `userxattr` is added there, unless the caller decided.
 *
 *   option                  inside a user namespace (Linux 6.18)
 *   ------                  ------------------------------------
 *   redirect_dir            EPERM, with userxattr EINVAL, unless nofollow; `off` follows where the module's
 *                           redirect_always_follow is on, which is the kernel's default
 *   metacopy on             EPERM, with userxattr EINVAL
 *   index, nfs_export on    the mount succeeds and they are off: file handles take CAP_DAC_READ_SEARCH of the machine
 */
import type { Features } from '../host/features.js'
import type { PlannedOptions } from './options.js'

const chosen =
  'inside a user namespace: options.userxattr was added; marks are user.overlay.* attributes, and trusted.overlay.* ones of the layers are not seen'
const declined =
  'inside a user namespace with userxattr: false: overlay can keep no marks, and removing a directory of a layer is EIO'

export interface Adapted {
  readonly options: PlannedOptions
  readonly notes: readonly string[]
}

/** The options that an overlay is made with here, once checkHere has let them pass. Pure. */
export function adaptOptions(options: PlannedOptions, features: Features): Adapted {
  if (features.initialUserNamespace || options.userxattr === true) return { options, notes: [] }
  if (options.userxattr === false) return { options, notes: [declined] }
  const list = [...options.list, { key: 'userxattr' }]
  return { options: { ...options, list, userxattr: true }, notes: [chosen] }
}
