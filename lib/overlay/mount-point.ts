/**
 * statmount(2), Linux 6.8: whether a mount is still in the caller's mount namespace, and where, by the id that is never
 * given again. It tells the place of a mount that no path leads to, because another covers it.
 */
import { binding } from '../binding.js'

const MNT_POINT = 0x10n
/** none with this id, and no id at all */
const none = [-2, -22]
const EOVERFLOW = 75
/** of struct statmount: mask, mnt_point (an offset into what follows), str */
const [maskAt, pointAt, stringsAt] = [8, 108, 512]

/** The mount point of a mount; undefined if the namespace does not have it, null if that cannot be told. */
export function mountPointOf(
  mountId: bigint,
  statmount = (size: number) => {
    const buffer = Buffer.alloc(size)
    return { result: binding.statmount(mountId, MNT_POINT, buffer), buffer }
  },
): Buffer | undefined | null {
  for (let size = stringsAt + 4096 + 1; ; size *= 2) {
    const { result, buffer } = statmount(size)
    if (result === -EOVERFLOW && size < 1_000_000) continue
    if (none.includes(result)) return undefined
    if (result < 0 || (buffer.readBigUInt64LE(maskAt) & MNT_POINT) === 0n) return null
    const begin = stringsAt + buffer.readUInt32LE(pointAt)
    return buffer.subarray(begin, buffer.indexOf(0, begin))
  }
}
