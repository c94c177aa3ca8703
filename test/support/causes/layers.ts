/** Mounts that fail because of their layers, or of the mapping of those: rows of diagnose.test.ts. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { create, noIdmap, overlay, type Row, replaced, sh } from './row.js'

export const layerRows: readonly Row[] = [
  {
    cause: 'a missing layer',
    make: ({ lowerdir, area }) => ({ lowerdir: replaced(lowerdir, 1, area.path('missing')) }),
    code: 'ENOENT',
    call: 'openat',
    hint: /^lowerdir\[1\] \(".*\/missing"\) does not exist$/,
  },
  {
    cause: 'a layer that is a file',
    make: ({ lowerdir }) => ({ lowerdir: replaced(lowerdir, 2, join(lowerdir[0] as string, 'each')) }),
    code: 'ENOTDIR',
    call: 'openat',
    hint: /^lowerdir\[2\] \(".*\/each"\), or something above it, is not a directory$/,
  },
  {
    cause: 'the same layer twice',
    make: ({ lowerdir }) => ({ lowerdir: replaced(lowerdir, 2, lowerdir[0] as string) }),
    code: 'ELOOP',
    call: create,
    hint: /^lowerdir\[0\] and lowerdir\[2\] are the same directory$/,
  },
  {
    cause: 'a layer inside another',
    make: ({ lowerdir }) => ({ lowerdir: replaced(lowerdir, 0, join(lowerdir[2] as string, 'dir')) }),
    code: 'ELOOP',
    call: create,
    hint: /^lowerdir\[0\] lies inside lowerdir\[2\]$/,
  },
  {
    cause: 'a layer inside the upper',
    make: ({ lowerdir, at }) => {
      mkdirSync(join(at.upperdir, 'layer'))
      return { lowerdir: replaced(lowerdir, 1, join(at.upperdir, 'layer')) }
    },
    code: 'ELOOP',
    call: create,
    hint: /^lowerdir\[1\] lies inside upperdir$/,
  },
  {
    cause: 'the upper is a layer',
    make: ({ lowerdir, at }) => ({ lowerdir: replaced(lowerdir, 1, at.upperdir) }),
    code: 'ELOOP',
    call: create,
    hint: /^lowerdir\[1\] and upperdir are the same directory$/,
  },
  {
    cause: 'overlays nested too deep',
    make: ({ area, lowerdir }) => {
      const once = overlay(area.path('once'), lowerdir.slice(0, 2).join(':'))
      const twice = overlay(area.path('twice'), `${once}:${lowerdir[2]}`)
      return { lowerdir: replaced(lowerdir, 2, twice) }
    },
    code: 'EINVAL',
    call: create,
    hint: /^lowerdir\[2\] is on an overlay file system, and the kernel stacks at most two$/,
    rungs: noIdmap,
  },
  {
    cause: 'a layer that cannot be idmapped: overlay',
    make: ({ area, lowerdir }) => ({
      lowerdir: replaced(lowerdir, 2, overlay(area.path('once'), lowerdir.slice(0, 2).join(':'))),
    }),
    code: 'EINVAL',
    call: 'open_tree_attr',
    hint: /^the file system of lowerdir\[2\] \(".*\/once"\) \(overlay\) does not support idmapped mounts/,
    rungs: ['detached-tree'],
  },
  {
    cause: 'a layer that cannot be idmapped: ramfs',
    make: ({ area, lowerdir }) => {
      sh('mount', '-n', '-t', 'ramfs', 'overlayfd-test', area.mkdir('ramfs'))
      return { lowerdir: replaced(lowerdir, 1, area.mkdir('ramfs', 'layer')) }
    },
    code: 'EINVAL',
    call: 'open_tree_attr',
    hint: /^the file system of lowerdir\[1\] \(".*\/ramfs\/layer"\) .*does not support idmapped mounts/,
    rungs: ['detached-tree'],
  },
  ...(
    [
      ['/proc/4194304/ns/user', 'ENOENT', 'openat', /^the user namespace idmap \(".*"\) cannot be opened$/],
      ['/etc/hostname', 'EINVAL', 'open_tree_attr', /user namespace/],
    ] as const
  ).map(
    ([userns, code, call, hint]): Row => ({
      cause: `a user namespace that is none, ${userns}`,
      make: () => ({ idmap: { userns } }),
      code,
      call,
      hint,
      rungs: ['detached-tree'],
    }),
  ),
]
