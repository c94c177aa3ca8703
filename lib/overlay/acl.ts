/**
 * POSIX ACLs as extended attributes (acl(5); linux/posix_acl_xattr.h): a version, then entries of tag,
 * permissions and id, little-endian. The ids of named users and groups are ids on disk, so a copy for a
 * shifted upper has them shifted too.
 */
const headerSize = 4
const entrySize = 8
const ACL_USER = 0x02
const ACL_GROUP = 0x08

export const isAcl = (name: Uint8Array): boolean =>
  /^system\.posix_acl_/.test(Buffer.from(name).toString('latin1'))

export interface IdShift {
  uid(id: number): number | undefined
  gid(id: number): number | undefined
}

/** The ACL with its ids shifted; entries of ids that nobody in the container can have are left out. */
export function shiftAcl(value: Uint8Array, shift: IdShift): Buffer {
  const acl = Buffer.from(value)
  const kept: Buffer[] = [acl.subarray(0, headerSize)]
  for (let at = headerSize; at + entrySize <= acl.length; at += entrySize) {
    const entry = acl.subarray(at, at + entrySize)
    const tag = entry.readUInt16LE(0)
    if (tag === ACL_USER || tag === ACL_GROUP) {
      const id = tag === ACL_USER ? shift.uid(entry.readUInt32LE(4)) : shift.gid(entry.readUInt32LE(4))
      if (id === undefined) continue
      entry.writeUInt32LE(id, 4)
    }
    kept.push(entry)
  }
  return Buffer.concat(kept)
}
