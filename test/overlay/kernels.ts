/**
 * What probing finds on kernels of several ages, for planning without them. Those of 6.1, 6.12 (both Debian's) and
 * 6.18 are compared with what is found there by `npm run test:kernels`; the others are what their release notes make
 * of those.
 */
import type { Features } from '../../lib/host/features.js'
import { probedOptions, selinuxOptions } from '../../lib/host/overlay-options.js'

export const absent = (call: string) => `ENOSYS: this kernel has no ${call}, or a filter (seccomp) hides it`

export const noPathFds = 'overlay takes no O_PATH fds, which came before layers of detached mounts'

/** of a machine with SELinux */
const options = [...probedOptions, ...selinuxOptions]
const newest: Features = {
  openTree: true,
  openTreeAttr: true,
  detachedLayers: true,
  mountSetattr: true,
  openat2: true,
  uniqueMountId: true,
  mountNamespaces: true,
  ownDirectory: true,
  fsContext: true,
  appendLayers: true,
  layersByFd: 'path',
  overlayOptions: options,
  erofsImages: true,
  overlay: true,
  mayMount: true,
  initialUserNamespace: true,
  reasons: {},
}

/** The same without some; each with a reason. */
export const lacking = (
  features: Features,
  reasons: Partial<Record<keyof Features, string>>,
  also: Partial<Features> = {},
): Features => {
  const missing = Object.fromEntries(Object.keys(reasons).map((name) => [name, false]))
  return { ...features, ...missing, ...also, reasons: { ...features.reasons, ...reasons } }
}

const without = (unknown: RegExp) => options.filter((option) => !unknown.test(option))
const linux6_13 = lacking(
  newest,
  { openTreeAttr: absent('open_tree_attr'), detachedLayers: noPathFds },
  { layersByFd: 'directory', overlayOptions: without(/^fsync|override_creds$/) },
)
/** Debian's, which has overlay's fsync= */
const linux6_12 = lacking(
  linux6_13,
  { layersByFd: 'EINVAL: lowerdir+ takes no fd' },
  { overlayOptions: without(/override_creds$/) },
)
const linux6_7 = lacking(
  linux6_12,
  {
    erofsImages: 'ENOTBLK: erofs mounts devices only, no files',
    uniqueMountId: 'statx does not fill STATX_MNT_ID_UNIQUE',
  },
  { overlayOptions: linux6_13.overlayOptions },
)
const linux6_1 = lacking(linux6_7, {
  appendLayers: 'EOPNOTSUPP: overlay has no fs context of its own',
  layersByFd: 'EOPNOTSUPP: overlay has no fs context of its own',
  overlayOptions: 'the fs context of overlay takes any option until it is created',
})
const linux4_19 = lacking(linux6_1, {
  openTree: absent('open_tree'),
  mountSetattr: absent('mount_setattr'),
  openat2: absent('openat2'),
  fsContext: absent('fsconfig'),
})

export const kernels = {
  '6.18': newest,
  '6.13': linux6_13,
  '6.12': linux6_12,
  '6.7': linux6_7,
  '6.1': linux6_1,
  '4.19': linux4_19,
} as const
