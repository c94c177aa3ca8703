import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import t from 'tap'
import {
  extentsOf,
  type IdExtent,
  type Idmap,
  isMapped,
  type MappedIdmap,
  outsideId,
  parseIdmap,
} from '../lib/idmap.js'
import { captured } from './sys/owned.js'

const one = [{ inside: 0, outside: 100_000, length: 65_536 }]
const oci = [{ containerID: 0, hostID: 100_000, size: 65_536 }]
const max = 0xffff_fffe
const parse = (option: unknown) => parseIdmap(option, 'options.idmap')
const mapped = (uid: readonly IdExtent[]) => parse({ uid, gid: one }) as MappedIdmap
/** n extents of one id each, far apart in the container, at `first` and up on the host */
const many = (n: number, first: number) =>
  Array.from({ length: n }, (_, i) => ({ inside: i * 2, outside: first + i * 2, length: 1 }))

t.test('accepted mappings', async (t) => {
  const cases: [string, IdExtent[], string][] = [
    ['one', one, '0 100000 65536\n'],
    ['several, in the order given', [
        { inside: 10, outside: 500, length: 10 },
        { inside: 0, outside: 200, length: 10 },
      ], '10 500 10\n0 200 10\n'],
    ['neighbours', [
        { inside: 0, outside: 0, length: 1 },
        { inside: 1, outside: 1, length: 1 },
      ], '0 0 1\n1 1 1\n'],
    ['every id there is', [{ inside: 0, outside: 0, length: max + 1 }], `0 0 ${max + 1}\n`],
    ['the last id', [{ inside: max, outside: max, length: 1 }], `${max} ${max} 1\n`],
  ] // biome-ignore format: a table
  for (const [name, uid, uidMap] of cases) {
    const found = mapped(uid)
    t.ok(isMapped(found))
    t.same(
      found,
      { uid, gid: one, uidMap, gidMap: '0 100000 65536\n', key: `${uidMap}/0 100000 65536\n` },
      name,
    )
  }
  t.same(mapped(many(340, 0)).uid.length, 340, 'as many as the kernel takes')
})

t.test('OCI’s spelling, also mixed with the other', async (t) => {
  t.same(parse({ uid: oci, gid: oci }), parse({ uid: one, gid: one }))
  const second = { inside: 70_000, outside: 300_000, length: 1 }
  t.same((parse({ uid: [...oci, second], gid: one }) as MappedIdmap).uid, [...one, second])
})

t.test('the kernel’s page', async (t) => {
  // lines of 24 bytes, one of 15, one of 25
  const wide = (n: number) => many(n, 4e9).map((extent, i) => ({ ...extent, inside: 1e9 + i * 2 }))
  const short = { inside: 0, outside: 0, length: 1e9 }
  const long = { inside: 2e9, outside: 2e9, length: 10 }
  t.equal(mapped([...wide(170), short]).uidMap.length, 4095)
  const error = captured(() => mapped([...wide(169), short, long]))
  const message = '"options.idmap.uid" is out of range. It must be a map of at most 4095 bytes as text'
  t.match(error, { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message: /Received 4096$/ })
  t.match(error, { message })
})

t.test('refused mappings', async (t) => {
  const type = 'ERR_INVALID_ARG_TYPE'
  const range = 'ERR_OUT_OF_RANGE'
  const value = 'ERR_INVALID_ARG_VALUE'
  const uid = (...extents: unknown[]) => ({ uid: extents, gid: one })
  const extent = (change: object) => uid({ inside: 0, outside: 0, length: 1, ...change })
  const overlap = (side: string, pair: string) => new RegExp(`extents ${pair} overlap ${side} the namespace`)
  const cases: [unknown, string, string | RegExp][] = [
    [undefined, type, '"options.idmap" argument must be an object { uid, gid } or { userns }'],
    [null, type, '"options.idmap"'],
    ['0:100000:65536', type, '"options.idmap"'],
    [{}, type, '"options.idmap.uid" argument must be an array of'],
    [{ uid: one }, type, '"options.idmap.gid"'],
    [{ gid: one }, type, '"options.idmap.uid"'],
    [{ uid: one, gid: one[0] }, type, '"options.idmap.gid"'],
    [{ uids: one, gid: one }, value, 'no option "options.idmap.uids". Did you mean "uid"?'],
    [{ uid: one, gid: one, size: 1 }, value, '"options.idmap.size"'],
    [{ uid: one, gid: one, userns: 3 }, value, '"options.idmap.uid"'],
    [uid(), value, '"options.idmap.uid" argument must hold at least one extent'],
    [{ uid: many(341, 0), gid: one }, range, 'at most 340 extents'],
    [{ uid: one, gid: many(341, 0) }, range, '"options.idmap.gid"'],
    [uid(null), type, '"options.idmap.uid[0]"'],
    [uid(one[0], 7), type, '"options.idmap.uid[1]"'],
    [extent({ lenght: 1 }), value, '"options.idmap.uid[0].lenght". Did you mean "length"?'],
    [uid({ containerID: 0, hostID: 0, length: 1 }), value, '"options.idmap.uid[0].length"'],
    [uid({ inside: 0, hostID: 0, size: 1 }), value, '"options.idmap.uid[0].inside"'],
    [uid({ containerID: 0, hostID: 0 }), type, '"options.idmap.uid[0].size"'],
    [uid({ inside: 0, outside: 0 }), type, '"options.idmap.uid[0].length"'],
    [extent({ inside: '0' }), type, '"options.idmap.uid[0].inside" argument must be a number'],
    [extent({ outside: 0n }), type, '"options.idmap.uid[0].outside"'],
    [extent({ inside: -1 }), range, '"options.idmap.uid[0].inside"'],
    [extent({ inside: 0.5 }), range, '"options.idmap.uid[0].inside"'],
    [extent({ inside: Number.NaN }), range, '"options.idmap.uid[0].inside"'],
    [extent({ inside: max + 1 }), range, `a whole number from 0 to ${max}`],
    [extent({ length: 0 }), range, `a whole number from 1 to ${max + 1}`],
    [extent({ length: max + 2 }), range, '"options.idmap.uid[0].length"'],
    [extent({ inside: 1, length: max + 1 }), range, '"options.idmap.uid[0].inside"'],
    [extent({ outside: max, length: 2 }), range, '"options.idmap.uid[0].outside"'],
    [uid({ containerID: max, hostID: 0, size: 2 }), range, '"options.idmap.uid[0].containerID"'],
    [uid(one[0], { inside: 65_535, outside: 0, length: 1 }), value, overlap('inside', '0 and 1')],
    [uid({ inside: 0, outside: 165_535, length: 1 }, { ...one[0], inside: 9 }), value, overlap('outside', '0 and 1')],
    [uid({ inside: 9, outside: 9, length: 9 }, { inside: 0, outside: 0, length: 1 }, { inside: 17, outside: 99, length: 1 }), value, overlap('inside', '0 and 2')],
    [{ uid: one, gid: [...one, ...one] }, value, /"options.idmap.gid" .*extents 0 and 1 overlap inside/],
  ] // biome-ignore format: a table
  for (const [option, code, message] of cases) t.throws(() => parse(option), { code, message })
  t.throws(() => parseIdmap(7, 'idmap'), { message: 'The "idmap" argument must' }, 'the caller’s name')
})

t.test('an existing namespace', async (t) => {
  const bytes = Buffer.from([0x2f, 0xff])
  const accepted: [unknown, unknown][] = [
    ['/proc/self/ns/user', Buffer.from('/proc/self/ns/user')],
    [bytes, bytes],
    [0, 0],
    [1023, 1023],
  ]
  for (const [userns, expected] of accepted) {
    const found = parse({ userns })
    t.same(found, { userns: expected })
    t.notOk(isMapped(found))
  }
  const refused: [unknown, string][] = [
    [undefined, 'ERR_INVALID_ARG_TYPE'],
    [null, 'ERR_INVALID_ARG_TYPE'],
    [{}, 'ERR_INVALID_ARG_TYPE'],
    [7n, 'ERR_INVALID_ARG_TYPE'],
    [-1, 'ERR_OUT_OF_RANGE'],
    [0.5, 'ERR_OUT_OF_RANGE'],
    [2 ** 31, 'ERR_OUT_OF_RANGE'],
    ['', 'ERR_INVALID_ARG_VALUE'],
    ['/a\0', 'ERR_INVALID_ARG_VALUE'],
    [Buffer.from('a\0b'), 'ERR_INVALID_ARG_VALUE'],
  ]
  for (const [userns, code] of refused) {
    t.throws(() => parse({ userns }), { code, message: '"options.idmap.userns"' })
  }
})

t.test('ids on the host', async (t) => {
  const extents = [...one, { inside: 70_000, outside: 5, length: 2 }]
  const pairs: [inside: number, outside: number][] = [
    [0, 100_000],
    [65_535, 165_535],
    [70_000, 5],
    [70_001, 6],
  ]
  for (const [inside, outside] of pairs) {
    t.equal(outsideId(extents, inside), outside)
  }
  for (const id of [65_536, 69_999, 70_002, -1]) t.equal(outsideId(extents, id), undefined)
})

t.test('any mapping that is accepted maps each of its ids', async () => {
  const lengths = fc.array(fc.tuple(fc.integer({ min: 1, max: 70_000 }), fc.nat(1000)), {
    minLength: 1,
    maxLength: 99,
  })
  const property = fc.property(lengths, fc.nat(), (list, seed) => {
    let [inside, outside] = [0, 1_000_000]
    const extents = list.map(([length, gap]) => {
      inside += gap + length
      outside += gap + length
      return { inside: inside - length, outside: outside - length, length }
    })
    const { uid, uidMap } = mapped(extents)
    const { inside: first, outside: host, length } = extents[seed % extents.length]!
    const nth = seed % length
    return outsideId(uid, first + nth) === host + nth && uidMap.split('\n').length === extents.length + 1
  })
  fc.assert(property)
})

t.test('the extents of a namespace, as far as its name tells', async (t) => {
  const own = (name: string) =>
    readFileSync(`/proc/self/${name}`, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.trim().split(/\s+/).join(' '))
  const asText = (extents: readonly IdExtent[]) =>
    extents.map(({ inside, outside, length }) => `${inside} ${outside} ${length}`)
  const found = extentsOf(parse({ userns: '/proc/self/ns/user' }))!
  t.same(asText(found.uid), own('uid_map'))
  t.same(asText(found.gid), own('gid_map'))
  t.same(extentsOf(parse({ userns: `/proc/${process.pid}/ns/user` })), found)
  const idmap = parse({ uid: one, gid: one })
  t.equal(extentsOf(idmap), idmap)
  const untold: Idmap[] = [
    { userns: 0 },
    { userns: Buffer.from('/run/netns/x') },
    { userns: Buffer.from('/proc/self/ns/user/') },
    { userns: Buffer.from('/proc/0/ns/user') },
  ]
  for (const userns of untold) t.equal(extentsOf(userns), undefined)
})
