/** Is a mount still there? Of real mounts in uppers.test.ts; here what is read where ids cannot be asked for. */
import t from 'tap'
import { binding } from '../../lib/binding.js'
import { MountLook } from '../../lib/overlay/presence.js'

const namespace = binding.mountNamespace()
const device = (major: number, minor: number) => BigInt(major) | (BigInt(minor) << 32n)
const mountinfo = `21 1 0:20 / / rw - ext4 /dev/vda rw
36 21 0:41 / /c/1 rw,relatime shared:3 - overlay overlay rw,lowerdir=/l
37 21 0:42 / /c/2 rw,relatime - tmpfs tmpfs rw
`

t.test('mountinfo, before Linux 6.8', async (t) => {
  let reads = 0
  const read = () => {
    reads++
    return Buffer.from(mountinfo)
  }
  const look = new MountLook(false, read)
  t.ok(look.sees({ namespace, mountId: 36n, dev: device(0, 41) }))
  t.notOk(look.sees({ namespace, mountId: 36n, dev: device(0, 43) }), 'the id was given to another mount')
  t.notOk(look.sees({ namespace, mountId: 35n, dev: device(0, 41) }))
  t.notOk(look.sees({ namespace, mountId: 37n, dev: device(0, 42) }), 'no overlay')
  t.equal(reads, 1, 'one look')
})

t.test('what cannot be looked into counts as there', async (t) => {
  const unreadable = () => {
    throw new Error('no /proc')
  }
  t.ok(new MountLook(false, unreadable).sees({ namespace, mountId: 1n, dev: 1n }))
  t.ok(new MountLook(true).sees({ namespace: namespace + 1, mountId: 1n, dev: 1n }), 'another namespace')
})

t.test('a filter that refuses statmount', async (t) => {
  const look = (errno: number) =>
    new MountLook(
      true,
      () => Buffer.from(mountinfo),
      () => -errno,
    )
  for (const errno of [38, 1]) {
    t.ok(look(errno).sees({ namespace, mountId: 2n ** 40n, dev: device(0, 41) }), `errno ${errno}`)
    t.notOk(look(errno).sees({ namespace, mountId: 2n ** 40n, dev: device(0, 43) }))
  }
})
