import t from 'tap'
import { isAcl, shiftAcl } from '../../lib/overlay/acl.js'

/** version 2, then [tag, permissions, id] */
const acl = (...entries: [number, number, number][]): Buffer => {
  const bytes = Buffer.alloc(4 + 8 * entries.length)
  bytes.writeUInt32LE(2, 0)
  for (const [i, [tag, perm, id]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + 8 * i)
    bytes.writeUInt16LE(perm, 6 + 8 * i)
    bytes.writeUInt32LE(id, 8 + 8 * i)
  }
  return bytes
}
const none = 0xffff_ffff
const shift = {
  uid: (id: number) => (id < 1000 ? id + 100_000 : undefined),
  gid: (id: number) => (id < 1000 ? id + 200_000 : undefined),
}

t.test('ids of named users and groups are shifted, the rest stays', async (t) => {
  const before = acl([1, 7, none], [2, 6, 5], [4, 5, none], [8, 4, 6], [16, 7, none], [32, 0, none])
  const after = acl(
    [1, 7, none],
    [2, 6, 100_005],
    [4, 5, none],
    [8, 4, 200_006],
    [16, 7, none],
    [32, 0, none],
  )
  t.same(shiftAcl(before, shift), after)
  t.equal(before.readUInt32LE(4 + 8 + 4), 5, 'the value itself is left alone')
})

t.test('entries of ids that are not mapped are left out', async (t) => {
  t.same(shiftAcl(acl([1, 7, none], [2, 6, 5000], [8, 1, 7]), shift), acl([1, 7, none], [8, 1, 200_007]))
})

t.test('a cut value loses the part of an entry', async (t) => {
  t.same(shiftAcl(acl([2, 6, 5]).subarray(0, 10), shift), acl())
})

t.test('which attributes are ACLs', async (t) => {
  for (const name of ['system.posix_acl_access', 'system.posix_acl_default']) t.ok(isAcl(Buffer.from(name)))
  for (const name of ['user.posix_acl', 'security.selinux']) t.notOk(isAcl(Buffer.from(name)))
})
