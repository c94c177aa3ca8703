import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { binding } from '../lib/binding.js'
import { flagBits } from '../lib/flags/flag.js'
import { flagNames, flagValues } from '../lib/flags/names.js'
import * as flags from '../lib/flags.js'
import { type Flag, type Flags, flag } from '../lib/flags.js'
import { root } from './support/child.js'
import { carriedValues, headerSizes, headerValues } from './support/headers.js'

const names = [...new Set([...Object.keys(flagValues), ...Object.keys(binding.constants)])]

t.test('every constant of lib/flags is the addon’s', async (t) => {
  t.ok(Object.keys(flagValues).length >= 140)
  for (const [name, value] of Object.entries(flagValues)) t.equal(value, binding.constants[name], name)
})

t.test('every constant is that of the headers, where those have it', async (t) => {
  const sets = { libc: headerValues('libc', names), kernel: headerValues('kernel', names) }
  const compared = names.filter((name) => sets.libc.has(name) || sets.kernel.has(name))
  t.comment(`${compared.length} of ${names.length} compared`)
  // Debian 12 has 152, and newer headers have more: none of this may be a comparison with nothing
  t.ok(compared.length >= 140, `${compared.length} compared`)
  for (const [set, values] of Object.entries(sets)) {
    for (const [name, value] of values) t.equal(binding.constants[name], value, `${name} of ${set}`)
  }
})

t.test('what native/uapi.h carries is what the headers have, and the addon', async (t) => {
  const carried = carriedValues()
  const definitions = readFileSync(join(root, 'native/uapi.h'), 'utf8').match(/^#ifndef (?!_GNU)/gm)
  t.equal(carried.size, definitions?.length, 'each definition was read')
  const headers = [headerValues('libc', [...carried.keys()]), headerValues('kernel', [...carried.keys()])]
  const compared = [...carried.keys()].filter((name) => headers.some((values) => values.has(name)))
  t.ok(compared.length >= 80, `${compared.length} of ${carried.size} compared`)
  for (const [name, value] of carried) {
    for (const values of headers) if (values.has(name)) t.equal(value, values.get(name), name)
    t.equal(value, binding.constants[name], `${name} of the addon`)
  }
})

t.test('sizes of structs', async (t) => {
  const sizes = headerSizes()
  t.ok(sizes.size > 0)
  t.same(binding.sizes, { mount_attr: 32, open_how: 24, statx: 256 })
  for (const [name, size] of sizes) t.equal(binding.sizes[name], size, name)
})

t.test('families do not mix', async (t) => {
  const mount = (bits: Flags<'MS'>): number => flagBits(bits, 'flags')
  const attributes = (bits: Flags<'MOUNT_ATTR'>): number => flagBits(bits, 'attributes')
  const both = (bits: Flags<'OPEN_TREE' | 'AT'>): number => flagBits(bits, 'flags')
  t.equal(mount([flags.MS_BIND, flags.MS_REC]), 0x5000)
  t.equal(mount(0), 0)
  t.equal(both([flags.OPEN_TREE_CLONE, flags.AT_RECURSIVE]), 0x8001)
  t.equal(mount([flag<'MS'>(0x4000_0000), flags.MS_BIND]), 0x4000_1000, 'unknown bits pass')
  // what follows must not compile; tsc fails when it does
  // @ts-expect-error MS_* are no MOUNT_ATTR_*
  t.equal(attributes(flags.MS_NODIRATIME), 0x800)
  // @ts-expect-error MOUNT_ATTR_* are no MS_*
  t.equal(mount([flags.MS_BIND, flags.MOUNT_ATTR_NODIRATIME]), 0x1080)
  // @ts-expect-error a number has no family, and `|` makes a number
  t.equal(mount(flags.MS_BIND | flags.MS_REC), 0x5000)
  // @ts-expect-error a propagation is set by mount_setattr on its own
  const propagation: Flag<'MS_PROPAGATION'> = flags.MS_REC
  t.equal(propagation, 0x4000)
})

t.test('combining', async (t) => {
  const of = (bits: unknown, width?: 32 | 53) => flagBits(bits as Flags<'MS'>, 'flags', width)
  t.equal(of([0x8000_0000, 1]), 0x8000_0001, 'the 32nd bit is no sign')
  t.equal(of([2 ** 40, 2 ** 40, 1], 53), 2 ** 40 + 1)
  t.equal(of([]), 0)
  for (const wrong of [undefined, null, '1', 1n, {}, true]) {
    t.throws(() => of(wrong), { code: 'ERR_INVALID_ARG_TYPE', message: '"flags" argument must be a flag or' })
    t.throws(() => of([1, wrong]), { code: 'ERR_INVALID_ARG_TYPE', message: '"flags[1]"' })
  }
  for (const wrong of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 32]) {
    t.throws(() => of(wrong), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message: '"flags"' })
  }
  t.throws(() => of(2 ** 53, 53), { code: 'ERR_OUT_OF_RANGE' })
  t.throws(() => flag('1' as unknown as number), { code: 'ERR_INVALID_ARG_TYPE' })
})

t.test('names of bits', async (t) => {
  const cases: [number | bigint, string[], string][] = [
    [0, ['MS'], '0'],
    [flags.MS_REC | flags.MS_PRIVATE, ['MS'], 'MS_REC|MS_PRIVATE'],
    [0x81041, ['OPEN_TREE', 'AT'], 'OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH|0x40'],
    [0x5fff, ['STATX'], 'STATX_BASIC_STATS|STATX_BTIME|STATX_MNT_ID|STATX_MNT_ID_UNIQUE'],
    [0x4, ['STATX'], 'STATX_NLINK'],
    [0x4, ['STATX_ATTR'], 'STATX_ATTR_COMPRESSED'],
    [0x71, ['MOUNT_ATTR'], 'MOUNT_ATTR__ATIME|MOUNT_ATTR_RDONLY'],
    [flags.O_TMPFILE, ['O'], 'O_TMPFILE'],
    [flags.O_SYNC, ['O'], 'O_SYNC'],
    [flags.MNT_DETACH | flags.UMOUNT_NOFOLLOW, ['MNT', 'UMOUNT'], 'MNT_DETACH|UMOUNT_NOFOLLOW'],
    [0, ['FSCONFIG'], 'FSCONFIG_SET_FLAG'],
    [6, ['FSCONFIG'], 'FSCONFIG_CMD_CREATE'],
    [99, ['FSCONFIG'], '0x63'],
    [1n << 40n, ['MOUNT_ATTR'], '0x10000000000'],
    [0xffff_ffff, ['ST'], 'ST_RDONLY|ST_NOSUID|ST_NODEV|ST_NOEXEC|ST_SYNCHRONOUS|ST_MANDLOCK|'],
  ]
  for (const [bits, families, text] of cases) t.match(flagNames(bits, ...families), text)
})
