import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { isBelow, mounts, parseMountinfo } from './mountinfo.js'
import { all, privileged } from './needs.js'
import { scratch } from './scratch.js'

const parse = (...lines: string[]) =>
  parseMountinfo(Buffer.from(lines.map((line) => `${line}\n`).join(''), 'latin1'))

t.test('each field', async (t) => {
  t.same(parse('36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 unbindable - ext3 /dev/root rw,errors=continue'), [
    {
      id: 36,
      parent: 35,
      device: '98:0',
      root: Buffer.from('/mnt1'),
      target: Buffer.from('/mnt2'),
      attributes: ['rw', 'noatime'],
      propagation: ['master:1', 'unbindable'],
      type: 'ext3',
      source: Buffer.from('/dev/root'),
      options: ['rw', 'errors=continue'],
    },
  ])
  t.same(parse('22 27 0:21 / /proc rw - proc proc rw')[0]?.propagation, [], 'private')
  t.same(parse('22 27 0:21 / /proc rw - tmpfs  rw')[0]?.source, Buffer.alloc(0), 'a source without a name')
  t.same(parseMountinfo(Buffer.alloc(0)), [])
})

t.test('names: what is written → the bytes', async (t) => {
  const names: [written: string, bytes: string][] = [
    ['/plain', '/plain'],
    ['/a\\040b\\011c\\012d\\134e', '/a b\tc\nd\\e'],
    ['/\\134040', '/\\040'],
    ['/caf\xe9\xff', '/caf\xe9\xff'],
    ['/#\\043', '/##'],
    ['/-', '/-'],
    ['-', '-'],
  ]
  for (const [written, bytes] of names) {
    const [mount] = parse(`1 2 0:1 / ${written} rw - overlay none rw`)
    t.equal(mount?.target.toString('latin1'), bytes, written)
  }
})

t.test('options are split before they are unescaped', async (t) => {
  const [mount] = parse('1 2 0:1 / /t rw - overlay none rw,lowerdir+=/a\\054b,upperdir=/u\\134:x')
  t.same(mount?.options, ['rw', 'lowerdir+=/a,b', 'upperdir=/u\\:x'])
})

t.test('what is no mountinfo is refused', async (t) => {
  for (const line of ['x', '36 35 98:0 / /mnt rw', '36 35 98:0 / /mnt rw - ext3']) {
    t.throws(() => parse(line), /not a line of mountinfo/, line)
  }
})

t.test('below', async (t) => {
  const [mount] = parse('1 2 0:1 / /a/b rw - tmpfs none rw')
  t.ok(mount && isBelow(mount, '/a') && isBelow(mount, '/a/b'))
  t.notOk(mount && (isBelow(mount, '/a/bc') || isBelow(mount, '/a/b/c') || isBelow(mount, '/a/')))
})

t.test('this process’s own, checked against the line count', async (t) => {
  const lines = readFileSync('/proc/self/mountinfo', 'latin1').trimEnd().split('\n')
  t.equal(mounts().length, lines.length)
  t.ok(mounts().some(({ target }) => target.toString() === '/'))
})

t.test('a real mount with an awkward name', all(privileged), async (t) => {
  const area = scratch(t)
  const dir = area.path('a b\\c\nd,e')
  mkdirSync(dir)
  execFileSync('mount', ['-n', '-t', 'tmpfs', 'test', dir])
  t.ok(mounts().some(({ target }) => target.toString() === dir))
  execFileSync('umount', ['-n', dir])
})
