/**
 * What each option of overlay does, seen from outside: one function an option, for any rung. `option-effects.test.ts`
 * runs them all; the type makes an option without one an error.
 */
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Mounter, OverlayMountOptions, OverlayOptions, Rootfs } from '../../lib/index.js'
import type { OptionName } from '../../lib/overlay/option-table.js'
import { fsidOf, isWrittenOut, readByHandle, transactions, xattrsOf } from './files.js'
import { mounts } from './mountinfo.js'
import { setXattrs, type Way } from './rungs.js'
import type { Container, Scratch } from './scratch.js'

export interface Given {
  readonly t: Test
  readonly area: Scratch
  readonly way: Way
  readonly mounter: Mounter
  /** `only-N`, `each`, `dir/from-N` in each */
  readonly lowerdir: string[]
  readonly at: Container
  /** mounts with these options, and unmounts afterwards; the superblock is gone when it resolves */
  with<T>(
    options: OverlayOptions,
    look: (rootfs: Rootfs, at: Container) => T | Promise<T>,
    over?: Partial<OverlayMountOptions> & Partial<Container>,
  ): Promise<T>
}

/** SELinux is not there to be mounted with: option-encoding.test.ts has these as data. */
export type Shown = Exclude<OptionName, 'context' | 'fscontext' | 'defcontext' | 'rootcontext'>

const text = (path: string) => readFileSync(path, 'utf8')
const codeOf = (call: () => unknown): string => {
  try {
    call()
    return 'done'
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'no code'
  }
}
const superOptions = (target: string): readonly string[] =>
  mounts()
    .filter((mount) => mount.target.equals(Buffer.from(target)))
    .at(-1)?.options ?? []
const deviceOf = (dir: string): string =>
  mounts()
    .filter((mount) => mount.target.equals(Buffer.from(dir)))
    .at(-1)!
    .source.toString()

/** A file of the top layer that stands for `/data` of a layer below. */
const metacopyOf = (top: string, name: string, size: number, digest: Uint8Array = Buffer.alloc(0)): void => {
  const path = join(top, name)
  writeFileSync(path, '')
  truncateSync(path, size)
  setXattrs(path, { 'trusted.overlay.metacopy': digest, 'trusted.overlay.redirect': '/data' })
}
/** struct ovl_metacopy with a digest of SHA-256 that no file has */
const wrongDigest = Buffer.concat([Buffer.of(0, 36, 0, 1), Buffer.alloc(32, 7)])

export const effects: Readonly<Record<Shown, (given: Given) => Promise<void>>> = {
  async volatile({ t, area, with: mounted }) {
    const disk = area.ext4('disk')
    for (const volatile of [false, true]) {
      const at = area.container(`volatile-${volatile}`, disk)
      await mounted(
        { volatile },
        ({ path }) => {
          writeFileSync(join(path, 'big'), Buffer.alloc(300_000, 1))
          syncfs(path)
          t.equal(isWrittenOut(join(at.upperdir, 'big')), !volatile, `syncfs, volatile: ${volatile}`)
          t.equal(existsSync(join(at.workdir, 'work/incompat/volatile')), volatile)
        },
        at,
      )
      t.equal(isWrittenOut(join(at.upperdir, 'big')), !volatile, 'and the unmount syncs no more than that')
    }
  },

  async fsync({ t, area, with: mounted }) {
    const disk = area.ext4('disk')
    const journal = () => transactions(deviceOf(disk))
    for (const fsync of ['auto', 'strict', 'volatile'] as const) {
      const at = area.container(fsync, disk)
      syncfs(disk)
      await mounted(
        { fsync, metacopy: 'on' },
        ({ path }) => {
          const begun = journal()
          chmodSync(join(path, 'each'), 0o600)
          chmodSync(join(path, 'dir'), 0o700)
          t.equal(journal() > begun, fsync === 'strict', `changes of metadata are synced by ${fsync}`)
          t.equal(existsSync(join(at.workdir, 'work/incompat/volatile')), fsync === 'volatile')
        },
        at,
      )
    }
  },

  async index({ t, area, way, mounter, lowerdir, at, with: mounted }) {
    linkSync(join(lowerdir[1]!, 'only-1'), join(lowerdir[1]!, 'linked'))
    for (const index of ['on', 'off'] as const) {
      await mounted(
        { index },
        ({ path }) => {
          appendFileSync(join(path, 'only-1'), ' more')
          const isOne = statSync(join(path, 'only-1')).ino === statSync(join(path, 'linked')).ino
          t.equal(isOne, index === 'on', `one inode after copy-up, index ${index}`)
          t.equal(text(join(path, 'linked')), index === 'on' ? 'layer 1 more' : 'layer 1')
        },
        area.container(`index-${index}`),
      )
    }
    // not of this library, whose own claims would be in the way
    const elsewhere = area.mkdir('elsewhere')
    const dirs = `lowerdir=${lowerdir[0]},upperdir=${at.upperdir},workdir=${at.workdir}`
    execFileSync('mount', ['-n', '-t', 'overlay', '-o', dirs, 'overlayfd-test', elsewhere])
    const other = { ...area.container('other'), upperdir: at.upperdir, lowerdir, idmap: way.idmap }
    await t.rejects(mounter.mount({ ...other, options: { index: 'on' } }), { code: 'EBUSY' })
    await mounted({ index: 'off' }, () => t.pass('which goes well with index off'), other)
    execFileSync('umount', ['-n', elsewhere])
  },

  async redirect_dir({ t, at, with: mounted }) {
    for (const redirect_dir of ['nofollow', 'follow', 'off'] as const) {
      await mounted({ redirect_dir }, ({ path }) => {
        const code = codeOf(() => renameSync(join(path, 'dir'), join(path, 'moved')))
        t.equal(code, 'EXDEV', redirect_dir)
      })
    }
    await mounted({ redirect_dir: 'on' }, ({ path }) => {
      renameSync(join(path, 'dir'), join(path, 'moved'))
      t.same(readdirSync(join(path, 'moved')).sort(), ['from-0', 'from-1'])
    })
    // relative where the directory stays in its own
    t.equal(xattrsOf(join(at.upperdir, 'moved'))['trusted.overlay.redirect'], 'dir')
    for (const [redirect_dir, names] of [
      ['follow', ['from-0', 'from-1']],
      ['nofollow', []],
    ] as const) {
      await mounted({ redirect_dir }, ({ path }) => {
        t.same(
          codeOf(() => readdirSync(join(path, 'moved'))),
          redirect_dir === 'follow' ? 'done' : 'EPERM',
        )
        if (redirect_dir === 'follow') t.same(readdirSync(join(path, 'moved')).sort(), names)
      })
    }
  },

  async metacopy({ t, area, lowerdir, with: mounted }) {
    writeFileSync(join(lowerdir[1]!, 'big'), Buffer.alloc(100_000, 'a'))
    for (const metacopy of ['on', 'off'] as const) {
      const at = area.container(`metacopy-${metacopy}`)
      await mounted(
        { metacopy },
        ({ path }) => {
          chmodSync(join(path, 'big'), 0o600)
          t.equal(text(join(path, 'big')).length, 100_000)
        },
        at,
      )
      const { blocks } = statSync(join(at.upperdir, 'big'))
      t.equal(blocks === 0, metacopy === 'on', `${blocks} blocks, metacopy ${metacopy}`)
      t.equal('trusted.overlay.metacopy' in xattrsOf(join(at.upperdir, 'big')), metacopy === 'on')
    }
  },

  async xino({ t, area, lowerdir, with: mounted }) {
    const disk = area.ext4('disk')
    const [lower] = area.layers(1, { base: disk, below: 'other' })
    writeFileSync(join(lower!, 'there'), '')
    for (const xino of ['on', 'auto', 'off'] as const) {
      await mounted(
        { xino },
        ({ path }) => {
          const [top, file] = [statSync(path), statSync(join(path, 'there'), { bigint: true })]
          t.equal(Number(file.dev) === top.dev, xino !== 'off', `one st_dev, xino ${xino}`)
          t.equal(file.ino >> 48n !== 0n, xino !== 'off', `high bits of st_ino, xino ${xino}`)
        },
        { ...area.container(`xino-${xino}`), lowerdir: [...lowerdir, lower!] },
      )
    }
  },

  async nfs_export({ t, area, with: mounted }) {
    for (const [nfs_export, expected] of [
      ['on', 'layer 1'],
      ['off', 'ENOTSUP'],
    ] as const) {
      await mounted(
        { nfs_export },
        ({ path }) => {
          t.equal(readByHandle(path, 'only-1'), expected, nfs_export)
        },
        area.container(`nfs-${nfs_export}`),
      )
    }
  },

  async userxattr({ t, area, lowerdir, with: mounted }) {
    setXattrs(join(lowerdir[0]!, 'dir'), { 'user.overlay.opaque': 'y' })
    for (const userxattr of [true, false]) {
      await mounted(
        { userxattr },
        ({ path }) => {
          t.same(readdirSync(join(path, 'dir')).sort(), userxattr ? ['from-0'] : ['from-0', 'from-1'])
        },
        area.container(`userxattr-${userxattr}`),
      )
    }
  },

  async uuid({ t, area, with: mounted }) {
    const below = fsidOf(area.dir)
    const fsid = async (uuid: OverlayOptions['uuid'], at: Container) =>
      mounted({ uuid }, ({ path }) => fsidOf(path), at)
    const at = area.container('uuid')
    const own = await fsid('on', at)
    t.not(own, below, 'an fsid of its own')
    t.equal(xattrsOf(at.upperdir)['trusted.overlay.uuid']?.length, 16)
    t.equal(await fsid('on', at), own, 'that lasts')
    t.equal(await fsid('auto', at), own, "and is what 'auto' finds")
    for (const uuid of ['null', 'off'] as const) t.equal(await fsid(uuid, at), below, uuid)
    const fresh = area.container('uuid-auto')
    t.not(await fsid('auto', fresh), below, 'a new upper gets one')
    t.ok('trusted.overlay.uuid' in xattrsOf(fresh.upperdir))
    const without = area.container('uuid-null')
    await fsid('null', without)
    t.notOk('trusted.overlay.uuid' in xattrsOf(without.upperdir))
  },

  async verity({ t, area, lowerdir, with: mounted }) {
    writeFileSync(join(lowerdir[1]!, 'data'), 'what is meant')
    const size = 'what is meant'.length
    metacopyOf(lowerdir[0]!, 'undigested', size)
    metacopyOf(lowerdir[0]!, 'digested', size, wrongDigest)
    for (const [verity, undigested, digested] of [
      ['off', 'done', 'done'],
      ['on', 'done', 'EIO'],
      ['require', 'EIO', 'EIO'],
    ] as const) {
      const at = area.container(`verity-${verity}`)
      await mounted(
        { verity, metacopy: 'on' },
        ({ path }) => {
          t.equal(
            codeOf(() => text(join(path, 'undigested'))),
            undigested,
            `${verity}: no digest`,
          )
          t.equal(
            codeOf(() => text(join(path, 'digested'))),
            digested,
            `${verity}: another digest`,
          )
          // which has no digest that could be written
          chmodSync(join(path, 'only-1'), 0o600)
        },
        at,
      )
      const isMetacopy = 'trusted.overlay.metacopy' in xattrsOf(join(at.upperdir, 'only-1'))
      t.equal(isMetacopy, verity !== 'require', `${verity}: copied up in full without one`)
    }
  },

  async override_creds({ t, area, with: mounted }) {
    for (const override_creds of [true, false]) {
      await mounted(
        { override_creds },
        ({ path }) => {
          appendFileSync(join(path, 'only-1'), ' more')
          t.equal(text(join(path, 'only-1')), 'layer 1 more', `override_creds: ${override_creds}`)
        },
        area.container(`creds-${override_creds}`),
      )
    }
  },

  async default_permissions({ t, area, with: mounted }) {
    for (const default_permissions of [true, false]) {
      const at = area.container(`permissions-${default_permissions}`)
      await mounted(
        { default_permissions },
        ({ path }) => {
          t.equal(superOptions(path).includes('default_permissions'), default_permissions)
          t.equal(lstatSync(path).isDirectory(), true)
        },
        at,
      )
    }
  },
}

function syncfs(path: string): void {
  execFileSync('sync', ['-f', path])
}
