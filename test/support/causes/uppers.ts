/** Mounts that fail because of upper, work, target or options: rows of diagnose.test.ts. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { attach, create, type Row, sh, unstaged } from './row.js'

export const upperRows: readonly Row[] = [
  {
    cause: 'work inside the upper',
    make: ({ area }) => ({
      upperdir: area.path('new'),
      workdir: join(area.path('new'), 'work'),
      create: true,
    }),
    code: 'EINVAL',
    call: create,
    hint: /^workdir lies inside upperdir; it must be beside it$/,
  },
  {
    cause: 'the upper inside work',
    make: ({ at }) => {
      mkdirSync(join(at.workdir, 'upper'))
      return { upperdir: join(at.workdir, 'upper') }
    },
    code: 'EINVAL',
    call: create,
    hint: /^upperdir lies inside workdir; it must be beside it$/,
  },
  {
    cause: 'upper and work are one',
    make: ({ area }) => ({ upperdir: area.mkdir('one'), workdir: `${area.path('one')}/../one` }),
    code: 'EINVAL',
    call: create,
    hint: /^workdir and upperdir are the same directory$/,
  },
  {
    cause: 'upper and work on different mounts',
    make: ({ area }) => {
      const workdir = area.mkdir('other')
      sh('mount', '-n', '-t', 'tmpfs', 'overlayfd-test', workdir)
      return { workdir }
    },
    code: 'EINVAL',
    // a clone of the directory above both shows another work directory
    call: { ...create, staged: 'statx', 'staged-classic': 'statx' },
    hint: /^workdir and upperdir are on different mounts$/,
  },
  {
    cause: 'a bind mount between upper and work',
    make: ({ at }) => {
      sh('mount', '-n', '--bind', at.workdir, at.workdir)
      return {}
    },
    code: 'EINVAL',
    call: create,
    hint: /^workdir and upperdir are on different mounts$/,
    // a clone does not have it
    rungs: unstaged,
  },
  {
    cause: 'a volatile mount after a volatile mount',
    make: ({ at }) => {
      mkdirSync(join(at.workdir, 'work/incompat/volatile'), { recursive: true })
      return { options: { volatile: true } }
    },
    code: 'EINVAL',
    call: create,
    hint: /^an earlier volatile mount left its mark in workdir: .* volatile: 'reset' removes the mark$/,
  },
  {
    cause: 'a mount after a volatile mount',
    make: ({ at }) => {
      mkdirSync(join(at.workdir, 'work/incompat/volatile'), { recursive: true })
      return {}
    },
    code: 'EINVAL',
    call: create,
    hint: /^workdir was used by a volatile mount: the upper may be torn/,
  },
  {
    cause: 'an upper on a read-only mount',
    make: ({ area }) => {
      const dir = area.mkdir('readonly')
      sh('mount', '-n', '-t', 'tmpfs', 'overlayfd-test', dir)
      const at = { upperdir: area.mkdir('readonly/upper'), workdir: area.mkdir('readonly/work') }
      sh('mount', '-n', '-o', 'remount,bind,ro', dir)
      return at
    },
    code: 'EINVAL',
    call: create,
    hint: /^upperdir is on a read-only mount$/,
  },
  {
    cause: 'an upper on an overlay',
    make: ({ area, at, lowerdir }) => {
      const dir = area.mkdir('nested')
      const options = `lowerdir=${lowerdir[0]},upperdir=${at.upperdir},workdir=${at.workdir}`
      sh('mount', '-n', '-t', 'overlay', '-o', options, 'overlayfd-test', dir)
      return { upperdir: area.mkdir('nested/upper'), workdir: area.mkdir('nested/work') }
    },
    code: 'EINVAL',
    call: create,
    hint: /^upperdir is on an overlay file system, which cannot be an upper$/,
  },
  {
    cause: 'an upper in use elsewhere, with index on',
    make: ({ area, at, lowerdir }) => {
      const options = `lowerdir=${lowerdir[0]},upperdir=${at.upperdir},workdir=${at.workdir},index=on`
      sh('mount', '-n', '-t', 'overlay', '-o', options, 'overlayfd-test', area.mkdir('elsewhere'))
      return { workdir: area.mkdir('work2'), options: { index: 'on' } }
    },
    code: 'EBUSY',
    call: create,
    hint: /^upperdir is in use by an overlay of another process, or by one that was unmounted lazily/,
  },
  {
    cause: 'an upper of other layers, with index on',
    make: ({ area, at, lowerdir }) => {
      const options = `lowerdir=${lowerdir[0]},upperdir=${at.upperdir},workdir=${at.workdir},index=on`
      const before = area.mkdir('before')
      sh('mount', '-n', '-t', 'overlay', '-o', options, 'overlayfd-test', before)
      sh('umount', '-n', before)
      return { lowerdir: lowerdir.slice(1), options: { index: 'on' } }
    },
    code: 'ESTALE',
    call: create,
    hint: /^upperdir was used with other lower layers before/,
  },
  {
    cause: 'a missing upper',
    make: ({ area }) => ({ upperdir: area.path('missing') }),
    code: 'ENOENT',
    call: 'openat',
    hint: /^upperdir \(".*\/missing"\) does not exist$/,
  },
  {
    cause: 'a missing target',
    make: ({ area }) => ({ target: area.path('missing') }),
    code: 'ENOENT',
    call: attach,
    hint: /^target \(".*\/missing"\) does not exist$/,
  },
  ...(['symbolic link', 'file'] as const).flatMap((what) =>
    (['EINVAL', 'ENOTDIR'] as const).map(
      (code): Row => ({
        cause: `a target that is a ${what}, ${code}`,
        make: ({ area }) => {
          if (what === 'file') writeFileSync(area.path('target'), '')
          else symlinkSync(area.mkdir('linked'), area.path('target'))
          return { target: area.path('target') }
        },
        code,
        call: code === 'EINVAL' ? 'move_mount' : 'openat',
        hint:
          what === 'file'
            ? /^target .*is not a directory$/
            : /^target is a symbolic link, which is not followed$/,
        rungs: code === 'EINVAL' ? ['detached-tree', 'direct', 'staged', 'staged-classic'] : ['classic'],
      }),
    ),
  ),
  {
    cause: 'work that cannot be prepared, of which the kernel says nothing',
    make: ({ at }) => {
      const inside = join(at.workdir, 'work')
      mkdirSync(inside)
      sh('mount', '-n', '--bind', inside, inside)
      return {}
    },
    code: 'EROFS',
    call: 'fstatfs',
    hint: /^the kernel made the overlay read-only because it could not prepare the work directory/,
    rungs: unstaged,
  },
]
