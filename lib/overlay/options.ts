/**
 * The overlay file system's own options (Documentation/filesystems/overlayfs.rst), as a table: from it come
 * the type's checks, the fsconfig steps and the data of mount(2).
 */
import { invalidArgType, invalidArgValue, unknownOption } from '../errors.js'

/** Options of the overlay file system. What is left out keeps the kernel's default. */
export interface OverlayOptions {
  /**
   * Nothing is synced: much faster teardown, and after a crash of the host the upper must be thrown away.
   * `true` refuses a work directory that an earlier volatile mount has left its mark in (the kernel leaves
   * it after a clean unmount too); `'reset'` removes the mark first, which gives up the warning that the
   * upper may be torn. Since Linux 5.10.
   */
  volatile?: boolean | 'reset'
  /**
   * Hard links survive copy-up, and an upper that is in use is refused (EBUSY). Default: the module's
   * parameter, off unless a distribution says otherwise. Since Linux 4.13.
   */
  index?: 'on' | 'off'
  /**
   * Directories may be renamed: `on` writes and follows redirects, `follow` only follows, `nofollow` does
   * neither. Default: the module's parameter. Conflicts with `userxattr` unless `nofollow`. Since Linux 4.10.
   */
  redirect_dir?: 'on' | 'off' | 'follow' | 'nofollow'
  /** Changes of metadata alone copy no data. Conflicts with `nfs_export: 'on'` and `userxattr`. Since Linux 4.19. */
  metacopy?: 'on' | 'off'
  /** Inode numbers that are unique over the layers' file systems. Since Linux 4.17. */
  xino?: 'on' | 'off' | 'auto'
  /** File handles for export over NFS; needs `index: 'on'`. Since Linux 4.16. */
  nfs_export?: 'on' | 'off'
  /**
   * Marks are `user.overlay.*` attributes, not `trusted.overlay.*`. Default: on inside a user namespace, where
   * overlay has no others and would degrade; off elsewhere. Since Linux 5.11.
   */
  userxattr?: boolean
  /** UUID of the mount: `null` as it was before 6.6, `auto` and `on` one of its own. Since Linux 6.6. */
  uuid?: 'on' | 'off' | 'null' | 'auto'
  /** Check of fs-verity digests kept with metacopy: `require` refuses files without. Since Linux 6.6. */
  verity?: 'on' | 'off' | 'require'
  /** Files are reached with the credentials of the mounter (true, the default) or of the caller. Since Linux 6.15. */
  override_creds?: boolean
}

type Kind = readonly string[] | 'flag' | 'negatable'
const onOff = ['on', 'off'] as const

const table: Readonly<Record<keyof OverlayOptions, Kind>> = {
  volatile: 'flag',
  index: onOff,
  redirect_dir: ['on', 'off', 'follow', 'nofollow'],
  metacopy: onOff,
  xino: ['on', 'off', 'auto'],
  nfs_export: onOff,
  userxattr: 'flag',
  uuid: ['on', 'off', 'null', 'auto'],
  verity: ['on', 'off', 'require'],
  override_creds: 'negatable',
}

export interface ParsedOption {
  /** the kernel's key */
  readonly key: string
  /** undefined for a flag */
  readonly value?: string
}

export interface ParsedOptions {
  readonly list: readonly ParsedOption[]
  /** the mark of an earlier volatile mount is to be removed */
  readonly resetVolatile: boolean
  readonly volatile: boolean
  /** as the caller gave it; undefined leaves it to the user namespace (userxattr.ts) */
  readonly userxattr?: boolean | undefined
}

/** Checks options; `name` is what errors call them. */
export function parseOptions(options: unknown, name: string): ParsedOptions {
  if (options === undefined) return { list: [], resetVolatile: false, volatile: false }
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalidArgType(name, 'an object', options)
  }
  const list: ParsedOption[] = []
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined) continue
    if (!Object.hasOwn(table, key)) throw unknownOption(`${name}.${key}`, Object.keys(table))
    const parsed = parseOption(key, table[key as keyof OverlayOptions], value, `${name}.${key}`)
    if (parsed) list.push(parsed)
  }
  const { volatile, userxattr } = options as OverlayOptions
  return {
    list,
    resetVolatile: volatile === 'reset',
    volatile: volatile === true || volatile === 'reset',
    userxattr,
  }
}

function parseOption(key: string, kind: Kind, value: unknown, name: string): ParsedOption | undefined {
  if (typeof kind !== 'string') {
    if (typeof value !== 'string') throw invalidArgType(name, `one of '${kind.join("', '")}'`, value)
    if (!kind.includes(value)) throw invalidArgValue(name, value, `must be one of '${kind.join("', '")}'`)
    return { key, value }
  }
  if (key === 'volatile' && value === 'reset') return { key }
  if (typeof value !== 'boolean') {
    throw invalidArgType(name, key === 'volatile' ? "boolean or 'reset'" : 'boolean', value)
  }
  if (value) return { key }
  return kind === 'negatable' ? { key: `no${key}` } : undefined
}
