import { readFileSync } from 'node:fs'
import t from 'tap'
import * as sys from '../lib/sys.js'
import { privileged } from './support/needs.js'
import { scratch } from './support/scratch.js'

const { AT_FDCWD } = sys

t.test('fds are close-on-exec unless said otherwise', privileged, async (t) => {
  const { dir } = scratch(t)
  const tmpfs = (): number => {
    const fs = sys.fsopen('tmpfs')
    t.teardown(() => sys.close(fs))
    sys.fsconfigCreate(fs)
    return fs
  }
  const makers: Record<string, (options?: sys.FdOptions) => number> = {
    fsopen: (options) => sys.fsopen('tmpfs', 0, options),
    fsmount: (options) => sys.fsmount(tmpfs(), 0, 0, options),
    fspick: (options) => sys.fspick(AT_FDCWD, dir, 0, options),
    openTree: (options) => sys.openTree(AT_FDCWD, dir, 0, options),
    openTreeAttr: (options) => {
      try {
        return sys.openTreeAttr(AT_FDCWD, dir, sys.OPEN_TREE_CLONE, {}, options)
      } catch (error) {
        // before Linux 6.15
        t.match(error, { code: 'ENOSYS' })
        return sys.openTree(AT_FDCWD, dir, sys.OPEN_TREE_CLONE, options)
      }
    },
    openat2: (options) => sys.openat2(AT_FDCWD, dir, {}, options),
  }
  for (const [name, make] of Object.entries(makers)) {
    const cloexec = (options?: sys.FdOptions): boolean => {
      const fd = make(options)
      const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')
      sys.close(fd)
      return (Number.parseInt(/^flags:\s*(\d+)$/m.exec(info)?.[1] ?? '', 8) & sys.O_CLOEXEC) !== 0
    }
    t.equal(cloexec(), true, name)
    t.equal(cloexec({ cloexec: true }), true, name)
    t.equal(cloexec({ cloexec: false }), false, name)
  }
})
