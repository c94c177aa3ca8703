/**
 * The overlay file system's own options (Documentation/filesystems/overlayfs.rst), as a table: from it come the
 * checks of option values, what excludes what, and the table of docs/options.md, which a test compares with it.
 *
 * Defaults that name a module parameter are those of /sys/module/overlay/parameters, which a distribution may
 * have set otherwise. Layers are options of the kernel too, and no part of this: `lowerdir`, `lowerdir+`, `datadir+`,
 * `upperdir` and `workdir` are what `lowerdir`, `datadir`, `upperdir` and `workdir` of a mount become.
 */

/** Options of the overlay file system. What is left out keeps the kernel's default; docs/options.md has a table. */
export interface OverlayOptions {
  /**
   * Nothing is synced: fsync(2) and syncfs(2) do nothing, teardown is fast, and after a crash of the host the upper
   * must be thrown away. `true` refuses a work directory that an earlier volatile mount has left its mark in (the
   * kernel leaves it after a clean unmount too); `'reset'` removes the mark first, which gives up the warning that
   * the upper may be torn. Default: `false`. Since Linux 5.10. Excludes `fsync: 'auto'`, `'strict'`.
   */
  volatile?: boolean | 'reset'
  /**
   * What is synced when a file is copied up: `auto` the data of files; `strict` directories and changes of metadata
   * alone too, as an upper file system needs that orders nothing itself (ubifs); `volatile` is `volatile: true`.
   * Default: `'auto'`. Since Linux 7.0, and in later releases of 6.12 and 6.18 (seen in 6.18.44). Excludes `volatile`.
   */
  fsync?: 'auto' | 'strict' | 'volatile'
  /**
   * Hard links survive copy-up, an upper or work directory that is in use is refused (EBUSY), and so is an upper that
   * was used with other layers (ESTALE). Default: `'off'` (module parameter `index`). Since Linux 4.13. Excludes, if
   * off, `nfs_export: 'on'`.
   */
  index?: 'on' | 'off'
  /**
   * Directories of lower layers can be renamed, which is EXDEV otherwise: `on` writes redirects and follows them,
   * `follow` only follows, `nofollow` does neither; `off` is one of these two, by the module parameter
   * `redirect_always_follow`. Default: `'off'` (module parameter `redirect_dir`). Since Linux 4.10. Excludes, unless
   * on, `metacopy: 'on'`; unless nofollow, `userxattr`.
   */
  redirect_dir?: 'on' | 'off' | 'follow' | 'nofollow'
  /**
   * Changes of metadata alone copy no data; turns `redirect_dir` on. Not for layers from strangers, whose redirects
   * could point at any file of a lower layer. Default: `'off'` (module parameter `metacopy`). Since Linux 4.19.
   * Excludes `redirect_dir` other than `'on'`, `nfs_export: 'on'`, `userxattr`.
   */
  metacopy?: 'on' | 'off'
  /**
   * Inode numbers that are unique over the layers' file systems, in one st_dev: the file system's number is put into
   * their high bits. `auto` only where they are persistent too. Layers of one file system need none of it.
   * Default: `'off'` (module parameter `xino_auto`). Since Linux 4.17.
   */
  xino?: 'on' | 'off' | 'auto'
  /**
   * File handles (name_to_handle_at(2)) that last, for export over NFS; turns `index` on. Without an `upperdir` the
   * kernel drops it unless `redirect_dir` is `nofollow`, so that is asked for. Default: `'off'` (module parameter
   * `nfs_export`). Since Linux 4.16. Excludes `index: 'off'`, `metacopy: 'on'`.
   */
  nfs_export?: 'on' | 'off'
  /**
   * Marks are `user.overlay.*` attributes instead of `trusted.overlay.*`. Default: `false`, inside a user namespace
   * `true`, where overlay has no others and would degrade. Since Linux 5.11. Excludes `redirect_dir` other than `'nofollow'`, `metacopy: 'on'`; before
   * Linux 6.16 `verity` too.
   */
  userxattr?: boolean
  /**
   * The UUID of the mount and the fsid of statfs(2): `on` its own, kept in the upper; `null` and `off` those of the
   * uppermost file system; `off` ignores the UUIDs of layers too; `auto` as the upper was first mounted, a new one `on`.
   * Default: `'auto'`. Since Linux 5.11, with `null` and `auto` since 6.6.
   */
  uuid?: 'on' | 'off' | 'null' | 'auto'
  /**
   * fs-verity digests of what a metacopy stands for: `on` checks those that are there, `require` refuses (EIO) a
   * metacopy without one and copies up in full where there is none to write. Default: `'off'`. Since Linux 6.6, which
   * before 6.16 has to come with `metacopy: 'on'` and without `redirect_dir` other than `'on'`.
   */
  verity?: 'on' | 'off' | 'require'
  /**
   * Whose credentials reach the layers: those of the call that sets the option (true), or of the one that creates the
   * superblock. A mount makes both as the same user but for `upper: 'idmapped'`, which excludes true. In rung classic it
   * changes nothing. Default: `false`. Since Linux 6.15. Excludes `upper: 'idmapped'`.
   */
  override_creds?: boolean
  /**
   * Permissions are checked by the overlay's own mode and owners: since Linux 4.8 always so, and the option only
   * accepted. Default: `false`. Since Linux 4.4.
   */
  default_permissions?: boolean
  /**
   * SELinux: the context of every file, instead of what the layers' attributes say. Printable ASCII without `"` and
   * `\`, at most 255 bytes. Default: none. Since Linux 4.9. Excludes `defcontext`.
   * @see mount(8), mount_selinux in selinux(8)
   */
  context?: string
  /** SELinux: the context of the file system itself, as `context`. Default: none. Since Linux 4.9. */
  fscontext?: string
  /** SELinux: the context of files without one, as `context`. Default: none. Since Linux 4.9. Excludes `context`. */
  defcontext?: string
  /** SELinux: the context of the root directory, as `context`. Default: none. Since Linux 4.9. */
  rootcontext?: string
}

export type OptionName = keyof OverlayOptions

/** Words; a flag; a flag with a `no` before it if false; or free text. */
export type Kind = readonly string[] | 'flag' | 'negatable' | 'text'

export interface OptionRow {
  readonly kind: Kind
  /** the first Linux that has it */
  readonly since: string
  readonly default: string
}

const onOff = ['on', 'off'] as const
const selinux = { kind: 'text', since: '4.9', default: 'none' } as const

export const optionTable: Readonly<Record<OptionName, OptionRow>> = {
  volatile: { kind: 'flag', since: '5.10', default: '`false`' },
  fsync: { kind: ['auto', 'strict', 'volatile'], since: '7.0', default: "`'auto'`" },
  index: { kind: onOff, since: '4.13', default: "`'off'` (module parameter `index`)" },
  redirect_dir: {
    kind: ['on', 'off', 'follow', 'nofollow'],
    since: '4.10',
    default: "`'off'` (module parameter `redirect_dir`)",
  },
  metacopy: { kind: onOff, since: '4.19', default: "`'off'` (module parameter `metacopy`)" },
  xino: { kind: ['on', 'off', 'auto'], since: '4.17', default: "`'off'` (module parameter `xino_auto`)" },
  nfs_export: { kind: onOff, since: '4.16', default: "`'off'` (module parameter `nfs_export`)" },
  userxattr: { kind: 'flag', since: '5.11', default: '`false`, inside a user namespace `true`' },
  uuid: { kind: ['on', 'off', 'null', 'auto'], since: '5.11', default: "`'auto'`" },
  verity: { kind: ['on', 'off', 'require'], since: '6.6', default: "`'off'`" },
  override_creds: { kind: 'negatable', since: '6.15', default: '`false`' },
  default_permissions: { kind: 'flag', since: '4.4', default: '`false`' },
  context: selinux,
  fscontext: selinux,
  defcontext: selinux,
  rootcontext: selinux,
}

/** An option and the values of it that are meant; of a flag or a text: that it is there. */
export type Side = readonly [option: OptionName, ...values: string[]]

export interface Conflict {
  readonly pair: readonly [Side, Side]
  /** only where there is an upperdir */
  readonly upper?: true
}

/**
 * What is kept in trusted.overlay.* attributes alone, which userxattr does without and user namespaces have not.
 * `off` follows redirects where the module's redirect_always_follow is on, which is the kernel's default.
 */
export const takesTrusted: readonly Side[] = [
  ['redirect_dir', 'on', 'off', 'follow'],
  ['metacopy', 'on'],
]

/** What the kernel turns off inside a user namespace, unasked: file handles take a capability of the machine. */
export const turnedOffInside: readonly Side[] = [
  ['index', 'on'],
  ['nfs_export', 'on'],
]

/**
 * What the kernel refuses together (ovl_fs_params_verify, EINVAL without a word), or of which it silently takes the
 * last. Where that hangs on a module parameter (`redirect_dir: 'off'`), it is refused here.
 */
export const conflicts: readonly Conflict[] = [
  { pair: [['volatile'], ['fsync', 'auto', 'strict']] },
  {
    pair: [
      ['metacopy', 'on'],
      ['redirect_dir', 'off', 'nofollow'],
    ],
  },
  {
    pair: [
      ['metacopy', 'on'],
      ['redirect_dir', 'follow'],
    ],
    upper: true,
  },
  {
    pair: [
      ['metacopy', 'on'],
      ['nfs_export', 'on'],
    ],
  },
  {
    pair: [
      ['nfs_export', 'on'],
      ['index', 'off'],
    ],
  },
  ...takesTrusted.map((side): Conflict => ({ pair: [['userxattr'], side] })),
  { pair: [['context'], ['defcontext']] },
]

/** What kernels before 6.16 refuse besides: found after such a mount has failed. */
export const earlierConflicts: readonly Conflict[] = [
  {
    pair: [
      ['verity', 'on', 'require'],
      ['metacopy', 'off'],
    ],
  },
  {
    pair: [
      ['verity', 'on', 'require'],
      ['redirect_dir', 'off', 'follow', 'nofollow'],
    ],
  },
  { pair: [['userxattr'], ['verity', 'on', 'require']] },
]
