import t from 'tap'
import { binding } from '../../lib/binding.js'
import * as sys from '../../lib/sys.js'
import { fds } from '../support/counts.js'
import { captured } from './owned.js'

const { AT_FDCWD } = sys
const addon = binding as unknown as Record<string, (...args: unknown[]) => unknown>

t.test('the addon refuses by TypeError whatever it is given', async (t) => {
  const word = Buffer.from('x\0')
  const odd: unknown[] = [
    undefined,
    null,
    true,
    'x',
    Symbol('x'),
    {},
    [],
    () => {},
    0.5,
    -(2 ** 40),
    2 ** 60,
    Number.NaN,
    -1n,
    2n ** 64n,
    Buffer.alloc(0),
    Buffer.from('no end'),
    Buffer.from('a\0b\0'),
    new Uint16Array(4),
    new Float64Array(11),
    new BigInt64Array(10),
    new ArrayBuffer(8),
    new DataView(new ArrayBuffer(8)),
  ]
  /** Of right types, and refused by the kernel; fd -1 everywhere. */
  const calls: Record<string, readonly unknown[]> = {
    fsopen: [word, 0xffff_ffff],
    fsconfig: [-1, 1, word, word, 0],
    fsmount: [-1, 0, 0],
    fspick: [-1, word, 0],
    openTree: [-1, word, 0],
    openTreeAttr: [-1, word, 0, 0n, 0n, 0n, 0n],
    moveMount: [-1, word, -1, word, 0],
    mountSetattr: [-1, word, 0, 1n, 0n, 0n, 0n],
    mount: [word, Buffer.from('/nonexistent\0'), word, 0, word],
    umount: [Buffer.from('/nonexistent\0'), 0],
    read: [-1, Buffer.alloc(8)],
    close: [-1],
    getcwd: [Buffer.alloc(1)],
    readlinkat: [-1, word, Buffer.alloc(8)],
    openat2: [-1, word, 0n, 0n, 0n],
    statx: [-1, word, 0, 0, Buffer.alloc(256)],
    statmount: [0n, 0n, Buffer.alloc(512)],
    statmountIn: [0n, 0n, 0n, Buffer.alloc(512)],
    mountNamespaceId: [-1],
    fstatfs: [-1, new BigInt64Array(11)],
    statfs: [Buffer.from('/nonexistent\0'), new BigInt64Array(11)],
    setns: [-1, 0],
    unshare: [1],
    lgetxattr: [Buffer.from('/nonexistent\0'), word, Buffer.alloc(8)],
  }
  const nullable = new Set(['fsconfig 2', 'fsconfig 3', 'mount 0', 'mount 2', 'mount 4', 'lgetxattr 1'])
  const buffers = new Set([
    'read 1',
    'getcwd 0',
    'readlinkat 2',
    'statx 4',
    'statmount 2',
    'statmountIn 3',
    'lgetxattr 2',
  ])
  const before = fds().size
  for (const [name, args] of Object.entries(calls)) {
    const result = addon[name]?.(...args)
    t.ok(typeof result === 'number' && result < 0, `${name}: ${result}`)
    t.throws(() => addon[name]?.(), TypeError, `${name} of nothing`)
    for (const index of args.keys()) {
      for (const value of odd) {
        if (value === null && nullable.has(`${name} ${index}`)) continue
        if (value instanceof Uint8Array && buffers.has(`${name} ${index}`)) continue
        const error = captured(() => addon[name]?.(...args.with(index, value)))
        t.match(error, { name: 'TypeError', message: `${name}: argument ${index + 1} must be ` })
      }
    }
  }
  t.match(
    captured(() => addon['fsconfig']?.(-1, 2, word, Buffer.alloc(3), 4)),
    { name: 'TypeError' },
  )
  t.match(
    captured(() => addon['fsconfig']?.(-1, 2, word, Buffer.alloc(3), -1)),
    { name: 'TypeError' },
  )
  t.equal(addon['statx']?.(AT_FDCWD, Buffer.from('/\0'), 0, 0, Buffer.alloc(255)), -34, 'ERANGE')
  t.throws(() => addon['strerror']?.('22'), TypeError)
  t.equal(fds().size, before)
})

t.test('64 bits may be a number or a bigint', async (t) => {
  const root = Buffer.from('/\0')
  for (const flags of [sys.O_PATH, BigInt(sys.O_PATH)]) {
    const fd = addon['openat2']?.(AT_FDCWD, root, flags, 0, 0n) as number
    t.ok(fd >= 0)
    sys.close(fd)
  }
  t.equal(addon['openat2']?.(AT_FDCWD, root, 2n ** 63n, 0n, 0n), -22)
})
