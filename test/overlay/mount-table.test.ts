/** mountinfo, parsed: hostile names, lines that are none; and beside another parser on the real one. */
import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import t from 'tap'
import { mountPointOf } from '../../lib/overlay/mount-point.js'
import { parseMounts, readMounts } from '../../lib/overlay/mount-table.js'
import { statx } from '../../lib/sys/stat.js'
import { AT_FDCWD, STATX_MNT_ID_UNIQUE } from '../../lib/sys.js'
import { mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'

const line = (target: string, source: string, optional = '') =>
  `36 35 0:39 / ${target} rw,noatime ${optional}- overlay ${source} ro,lowerdir=/a`

t.test('fields', async (t) => {
  const parse = (text: string, wanted?: string) => parseMounts(Buffer.from(text, 'latin1'), wanted)
  const plain = {
    id: 36n,
    parent: 35n,
    dev: 39n << 32n,
    target: Buffer.from('/t'),
    type: 'overlay',
    source: 's',
  }
  t.same(parse(`${line('/t', 's')}\n`), [plain])
  t.same(parse(line('/t', 's', 'shared:7 master:3 ')), [plain])
  const [odd] = parse(line('/a\\040b\\011c\\012d\\134e\\040-\\040overlay\\040overlayfd:1/2@3', 'x\\040y'))
  t.equal(odd?.target.toString(), '/a b\tc\nd\\e - overlay overlayfd:1/2@3')
  t.equal(odd?.source, 'x y')
  t.same(parse(line('/\xff\xfe', 's'))[0]?.target, Buffer.from([0x2f, 0xff, 0xfe]))
  t.equal(parse(line('/\\0400', 's'))[0]?.target.toString(), '/ 0', 'three digits and no more')
  t.equal(parse(line('/\\\\134', 's'))[0]?.target.toString(), '/\\\\', 'unescaped once')
  for (const bad of [
    '',
    'x',
    '36 35',
    line('/t', 's').replace(' - ', ' '),
    line('/t', 's').replace('0:39', 'x'),
  ]) {
    t.same(parse(bad), [], JSON.stringify(bad))
  }
  t.same(parse(`${line('/a', 'overlayfd:1/2@3')}\n${line('/b', 'none')}`, 'overlayfd:').length, 1)
})

t.test('the own table', privileged, async (t) => {
  const area = scratch(t)
  const names = ['a b', 'new\nline', 'back\\slash', 'tab\t', 'oct\\040al']
  const dirs = [...names.map(Buffer.from), Buffer.from([0xff, 0xfe])]
  for (const name of dirs) {
    const dir = Buffer.concat([Buffer.from(`${area.dir}/`), name])
    mkdirSync(dir)
    execFileSync('python3', [
      '-c',
      'import subprocess,sys,os;subprocess.run([b"mount",b"-n",b"-t",b"tmpfs",b"s",os.fsencode(sys.argv[1]) if len(sys.argv)<3 else bytes.fromhex(sys.argv[2])],check=True)',
      '-',
      dir.toString('hex'),
    ])
    const { mntIdUnique } = statxOf(dir)
    t.same(mountPointOf(mntIdUnique!), dir)
  }
  const other = mounts().map(({ id, target, source, type }) => ({
    id: BigInt(id),
    target,
    source: source.toString('latin1'),
    type,
  }))
  t.same(
    readMounts().map(({ id, target, source, type }) => ({ id, target, source, type })),
    other,
  )
  for (const name of dirs.reverse()) {
    execFileSync('python3', [
      '-c',
      'import ctypes,sys;assert ctypes.CDLL(None).umount2(bytes.fromhex(sys.argv[1]),0)==0',
      Buffer.concat([Buffer.from(`${area.dir}/`), name]).toString('hex'),
    ])
  }
})

const statxOf = (path: Buffer) => statx(AT_FDCWD, path, 0, STATX_MNT_ID_UNIQUE)

t.test('where a mount is, by its id', async (t) => {
  const { mntIdUnique } = statxOf(Buffer.from('/'))
  t.same(mountPointOf(mntIdUnique!), Buffer.from('/'))
  t.equal(mountPointOf(2n ** 63n), undefined, 'no such mount')
  t.equal(mountPointOf(1n), undefined, 'no such id')
  const answers = (...results: number[]) => {
    const sizes: number[] = []
    const call = (size: number) => {
      sizes.push(size)
      const buffer = Buffer.alloc(size)
      buffer.writeBigUInt64LE(0x10n, 8)
      buffer.writeUInt32LE(3, 108)
      buffer.write('\0\0\0/far\0', 512, 'latin1')
      return { result: results.shift() ?? 0, buffer }
    }
    return { answer: mountPointOf(7n, call), sizes }
  }
  t.same(answers(), { answer: Buffer.from('/far'), sizes: [4609] })
  t.same(answers(-75, -75), { answer: Buffer.from('/far'), sizes: [4609, 9218, 18436] })
  t.equal(answers(-1).answer, null, 'refused by a filter')
  t.equal(answers(-38).answer, null, 'not there')
  t.equal(answers(...Array(20).fill(-75)).answer, null, 'it has an end')
})
