/**
 * Which options overlay knows: each is set on a scratch context, which is closed again.
 *
 * A context of overlay's own (Linux 6.5) refuses what it does not know with EINVAL; the one before it takes any
 * string and fails at CREATE, which a name that no kernel has gives away. SELinux's options take a context that is
 * valid in the loaded policy, so it is SELinux itself that is looked for.
 */
import { readFileSync } from 'node:fs'
import { errnoName } from '../errno.js'
import { readingIfThere } from '../exhausted.js'

/** Every key, with every word it takes: of the table in lib/overlay/option-table.ts, which a test compares. */
export const probedOptions: readonly string[] = [
  'volatile',
  ...['fsync=auto', 'fsync=strict', 'fsync=volatile'],
  ...['index=on', 'index=off'],
  ...['redirect_dir=on', 'redirect_dir=off', 'redirect_dir=follow', 'redirect_dir=nofollow'],
  ...['metacopy=on', 'metacopy=off'],
  ...['xino=on', 'xino=off', 'xino=auto'],
  ...['nfs_export=on', 'nfs_export=off'],
  'userxattr',
  ...['uuid=on', 'uuid=off', 'uuid=null', 'uuid=auto'],
  ...['verity=on', 'verity=off', 'verity=require'],
  ...['override_creds', 'nooverride_creds'],
  'default_permissions',
]

export const selinuxOptions = ['context', 'fscontext', 'defcontext', 'rootcontext'] as const

/**
 * Those that it knows, as `key` or `key=word`; false with a reason where it cannot be told.
 *
 * @param set sets an option on a scratch context: 0 or -errno
 */
export function probeOptions(
  set: (key: string, word: string | undefined) => number,
  reasons: Record<string, string>,
): readonly string[] | false {
  const unknown = set('overlayfd_no_option', 'on')
  if (unknown === 0 || errnoName(-unknown) !== 'EINVAL') {
    reasons['overlayOptions'] = 'the fs context of overlay takes any option until it is created'
    return false
  }
  const isKnown = (option: string): boolean => {
    const [key = '', word] = option.split('=')
    return set(key, word) === 0
  }
  return [...probedOptions.filter(isKnown), ...(hasSelinux() ? selinuxOptions : [])]
}

/** Its file system is registered only if it is enabled: what is_selinux_enabled(3) looks for. */
function hasSelinux(): boolean {
  const path = '/proc/filesystems'
  // without /proc nothing is mounted anyway
  return /\bselinuxfs$/m.test(readingIfThere(path, () => readFileSync(path, 'latin1')) ?? '')
}
