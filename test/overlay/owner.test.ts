import t from 'tap'
import { parseIdmap } from '../../lib/idmap.js'
import { idsOnDisk, ownerOnDisk } from '../../lib/overlay/owner.js'

const idmap = parseIdmap(
  {
    uid: [{ inside: 0, outside: 100_000, length: 1000 }],
    gid: [{ inside: 0, outside: 300_000, length: 500 }],
  },
  'idmap',
)
const noRoot = parseIdmap(
  { uid: [{ inside: 1, outside: 1, length: 1 }], gid: [{ inside: 1, outside: 1, length: 1 }] },
  'idmap',
)
const ids0 = [{ inside: 0, outside: 1, length: 1 }]
const asis = { upper: 'asis', create: true } as const
const shifted = { upper: 'shifted', create: false } as const

t.test('ids on disk', async (t) => {
  const table: [string, Parameters<typeof idsOnDisk>, [uid: number, gid: number], [number?, number?]][] = [
    ['no mapping', [asis, undefined], [7, 8], [7, 8]],
    ['an upper that is idmapped itself', [{ upper: 'idmapped', create: true }, idmap], [7, 8], [7, 8]],
    ['not mapped in one', [{ upper: 'idmapped', create: true }, idmap], [1000, 500], [undefined, undefined]],
    ['as it is', [asis, idmap], [7, 8], [100_007, 300_008]],
    ['shifted', [shifted, idmap], [0, 499], [100_000, 300_499]],
    ['not mapped', [shifted, idmap], [1000, 500], [undefined, undefined]],
    ['by the name of a namespace', [shifted, { userns: Buffer.from('/proc/self/ns/user') }], [7, 8], [7, 8]],
  ]
  for (const [name, args, [uid, gid], expected] of table) {
    const ids = idsOnDisk(...args)
    t.same([ids.uid(uid), ids.gid(gid)], expected, name)
  }
})

t.test('a bare fd does not tell its ids', async (t) => {
  const needs = (option: string) => new RegExp(`"${option}" argument needs .*/proc/PID/ns/user`)
  const fd = { userns: 0 }
  t.throws(() => idsOnDisk(asis, fd), { code: 'ERR_INVALID_ARG_VALUE', message: needs('options.create') })
  t.throws(() => idsOnDisk(shifted, fd), { message: needs('options.upper') })
})

t.test('an owner is mapped, or the container’s root', async (t) => {
  const ids = idsOnDisk(asis, idmap)
  const table: [uid: number, gid: number, expected: object][] = [
    [0, 0, { uid: 100_000, gid: 300_000 }],
    [999, 499, { uid: 100_999, gid: 300_499 }],
    [1000, 1, { uid: 100_000, gid: 300_001 }],
    [1, 65_534, { uid: 100_001, gid: 300_000 }],
  ]
  for (const [uid, gid, expected] of table) t.same(ownerOnDisk(ids, uid, gid), expected)
  t.same(ownerOnDisk(idsOnDisk(asis, noRoot), 1, 1), { uid: 1, gid: 1 })
  const message = (kind: string, received: string) =>
    `The "options.idmap" argument must map ${kind} 0: the upper belongs to the container’s root. Received ${received}`
  const extent = '[ { inside: 1, outside: 1, length: 1 } ]'
  t.throws(() => ownerOnDisk(idsOnDisk(asis, noRoot), 0, 0), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: message('uid', extent),
  })
  const noGroup = parseIdmap({ uid: ids0, gid: [{ inside: 1, outside: 1, length: 1 }] }, 'idmap')
  t.throws(() => ownerOnDisk(idsOnDisk(asis, noGroup), 0, 0), { message: message('gid', extent) })
})
