import t from 'tap'
import * as sys from '../../lib/sys.js'
import { captured } from './owned.js'

const { AT_FDCWD } = sys

/** One call of each function whose arguments are checked, with what each argument may not be. */
type Kind = 'fd' | 'dirFd' | 'path' | 'word' | 'maybePath' | 'flags' | 'object' | 'bytes'
const functions: Record<string, readonly (readonly [name: string, kind: Kind, valid: unknown])[]> = {
  fsopen: [
    ['type', 'word', 'x'],
    ['flags', 'flags', 0],
    ['options', 'object', {}],
  ],
  fsconfigSetFlag: [
    ['fsFd', 'fd', 0],
    ['key', 'word', 'x'],
  ],
  fsconfigSetString: [
    ['fsFd', 'fd', 0],
    ['key', 'word', 'x'],
    ['value', 'path', 'x'],
  ],
  fsconfigSetBinary: [
    ['fsFd', 'fd', 0],
    ['key', 'word', 'x'],
    ['value', 'bytes', Buffer.alloc(1)],
  ],
  fsconfigSetPath: [
    ['fsFd', 'fd', 0],
    ['key', 'word', 'x'],
    ['path', 'word', 'x'],
    ['dirFd', 'dirFd', 0],
  ],
  fsconfigSetPathEmpty: [
    ['fsFd', 'fd', 0],
    ['key', 'word', 'x'],
    ['path', 'path', 'x'],
    ['dirFd', 'dirFd', 0],
  ],
  fsconfigSetFd: [
    ['fsFd', 'fd', 0],
    ['key', 'word', 'x'],
    ['fd', 'fd', 0],
  ],
  fsconfigCreate: [['fsFd', 'fd', 0]],
  fsconfigCreateExclusive: [['fsFd', 'fd', 0]],
  fsconfigReconfigure: [['fsFd', 'fd', 0]],
  readLog: [['fsFd', 'fd', 0]],
  fsmount: [
    ['fsFd', 'fd', 0],
    ['flags', 'flags', 0],
    ['attributes', 'flags', 0],
    ['options', 'object', {}],
  ],
  fspick: [
    ['dirFd', 'dirFd', 0],
    ['path', 'path', 'x'],
    ['flags', 'flags', 0],
    ['options', 'object', {}],
  ],
  openTree: [
    ['dirFd', 'dirFd', 0],
    ['path', 'path', 'x'],
    ['flags', 'flags', 0],
    ['options', 'object', {}],
  ],
  openTreeAttr: [
    ['dirFd', 'dirFd', 0],
    ['path', 'path', 'x'],
    ['flags', 'flags', 0],
    ['attr', 'object', {}],
    ['options', 'object', {}],
  ],
  moveMount: [
    ['fromFd', 'dirFd', 0],
    ['fromPath', 'path', 'x'],
    ['toFd', 'dirFd', 0],
    ['toPath', 'path', 'x'],
    ['flags', 'flags', 0],
  ],
  mountSetattr: [
    ['dirFd', 'dirFd', 0],
    ['path', 'path', 'x'],
    ['flags', 'flags', 0],
    ['attr', 'object', {}],
  ],
  mount: [
    ['source', 'maybePath', null],
    ['target', 'word', '/nonexistent'],
    ['type', 'maybePath', null],
    ['flags', 'flags', 0],
    ['data', 'maybePath', null],
  ],
  umount: [
    ['target', 'word', '/nonexistent'],
    ['flags', 'flags', 0],
  ],
  openat2: [
    ['dirFd', 'dirFd', 0],
    ['path', 'path', 'x'],
    ['how', 'object', {}],
    ['options', 'object', {}],
  ],
  close: [['fd', 'fd', 0]],
  statx: [
    ['dirFd', 'dirFd', 0],
    ['path', 'path', 'x'],
    ['flags', 'flags', 0],
    ['mask', 'flags', 0],
  ],
  fstatfs: [['fd', 'fd', 0]],
  statfs: [['path', 'word', '/']],
  setns: [
    ['fd', 'fd', 0],
    ['type', 'flags', 0],
  ],
  unshare: [['flags', 'flags', 0]],
  lgetxattr: [
    ['path', 'word', '/'],
    ['name', 'word', 'user.x'],
  ],
  llistxattr: [['path', 'word', '/']],
}

const wrongTypes: Record<Kind, readonly unknown[]> = {
  fd: [undefined, null, '0', 0n, {}],
  dirFd: [null, '0', 0n, {}],
  path: [undefined, null, 7, {}, ['x']],
  word: [undefined, null, 7, {}],
  maybePath: [7, {}, true],
  flags: [null, '0', 0n, {}, ['x']],
  object: [null, 'x', 7],
  bytes: [undefined, null, 'x', [1], new Uint16Array(1)],
}
const wrongValues: Record<Kind, readonly unknown[]> = {
  fd: [-1, 0.5, Number.NaN, 2 ** 31, AT_FDCWD],
  dirFd: [-1, 0.5, Number.NaN, 2 ** 31],
  path: ['a\0b', Buffer.from('a\0'), '\ud800'],
  word: ['', 'a\0b', Buffer.from('a\0')],
  maybePath: ['a\0b'],
  flags: [-1, 0.5, 2 ** 53, [0, -1]],
  object: [{ nonsense: 1 }],
  bytes: [Buffer.alloc(0)],
}

t.test('every function is in the table', async (t) => {
  const names = Object.entries(sys).filter(
    ([name, value]) => typeof value === 'function' && !['flag', 'MountError', 'SyscallError'].includes(name),
  )
  t.same(names.map(([name]) => name).sort(), Object.keys(functions).sort())
})

t.test('a wrong argument is named, before any call', async (t) => {
  for (const [name, args] of Object.entries(functions)) {
    const call = (sys as unknown as Record<string, (...args: unknown[]) => unknown>)[name]
    for (const [index, [argument, kind]] of args.entries()) {
      const attempt = (value: unknown) => {
        const values = args.map(([, , valid]) => valid)
        values[index] = value
        return captured(() => call?.(...values))
      }
      for (const value of wrongTypes[kind]) {
        const message = new RegExp(`^The "${argument}(\\[0\\])?" argument must be `)
        t.match(attempt(value), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message }, name)
      }
      for (const value of wrongValues[kind]) {
        const code = /^ERR_(OUT_OF_RANGE|INVALID_ARG_VALUE)$/
        t.match(attempt(value), { code, message: new RegExp(`"${argument}[".[]`) }, `${name} ${argument}`)
      }
    }
  }
})

t.test('options of options', async (t) => {
  const cases: [() => unknown, string, string][] = [
    [
      () => sys.fsopen('x', 0, { cloexec: 1 as unknown as boolean }),
      'ERR_INVALID_ARG_TYPE',
      'options.cloexec',
    ],
    [() => sys.fsopen('x', 0, { cloExec: true } as object), 'ERR_INVALID_ARG_VALUE', 'mean "cloexec"'],
    [() => sys.openat2(0, 'x', { flag: 0 } as object), 'ERR_INVALID_ARG_VALUE', 'mean "flags"'],
    [() => sys.openat2(0, 'x', { mode: '1' as unknown as number }), 'ERR_INVALID_ARG_TYPE', '"how.mode"'],
    [() => sys.openat2(0, 'x', { resolve: -1 as 0 }), 'ERR_OUT_OF_RANGE', '"how.resolve"'],
    [
      () => sys.mountSetattr(0, '', 0, { attrSet: '1' as unknown as 0 }),
      'ERR_INVALID_ARG_TYPE',
      'attr.attrSet',
    ],
    [() => sys.mountSetattr(0, '', 0, { attrClr: [-1] as never }), 'ERR_OUT_OF_RANGE', '"attr.attrClr[0]"'],
    [() => sys.mountSetattr(0, '', 0, { usernsFd: -1 }), 'ERR_OUT_OF_RANGE', '"attr.usernsFd"'],
    [() => sys.mountSetattr(0, '', 0, { propagation: -1 as 0 }), 'ERR_OUT_OF_RANGE', '"attr.propagation"'],
  ]
  for (const [call, code, message] of cases) t.match(captured(call), { code, message })
})

t.test('an error has the stack of its call', async (t) => {
  const error = captured(() => sys.statx(AT_FDCWD, '/', sys.flag<'AT'>(0x4_0000)))
  t.match(error, { name: 'SyscallError', code: 'EINVAL', stack: /call\.test/ })
})
