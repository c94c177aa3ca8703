/**
 * What probing finds on kernels of several ages, for planning without them. Seen on 6.1, 6.12 and 6.18; the others
 * are what their release notes make of those.
 */
import type { Features } from '../../lib/host/features.js'
import { probedOptions, selinuxOptions } from '../../lib/host/overlay-options.js'

const absent = 'ENOSYS: this kernel does not have it'

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
  { openTreeAttr: absent, detachedLayers: 'overlay takes no O_PATH fds' },
  { layersByFd: 'directory', overlayOptions: without(/^fsync|override_creds$/) },
)
const linux6_7 = lacking(linux6_13, {
  erofsImages: 'ENOTBLK: erofs mounts devices only, no files',
  layersByFd: 'EINVAL: lowerdir+ takes no fd',
  uniqueMountId: 'statx does not fill STATX_MNT_ID_UNIQUE',
})
const linux6_1 = lacking(linux6_7, {
  appendLayers: 'EOPNOTSUPP: overlay has no fs context of its own',
  overlayOptions: 'the fs context of overlay takes any option until it is created',
})
const linux4_19 = lacking(linux6_1, {
  openTree: absent,
  mountSetattr: absent,
  openat2: absent,
  fsContext: absent,
})

export const kernels = {
  '6.18': newest,
  '6.13': linux6_13,
  '6.7': linux6_7,
  '6.1': linux6_1,
  '4.19': linux4_19,
} as const
