/** The cache of images: one for each key, for as long as somebody has a lease, and a moment longer. */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { ImageCache, type OpenImage } from '../../lib/overlay/image-cache.js'
import { held } from '../../lib/program/plan.js'

const image = (fd: number): OpenImage => ({
  fd: held(fd, `/i/${fd}`),
  identity: { dev: 1n, ino: 2n, mountId: BigInt(fd) },
  top: { mode: 0o755, uid: 0, gid: 0 },
})

const cacheOf = (lingerMs?: number) => {
  const closed: number[] = []
  return { closed, cache: new ImageCache(({ trees = [] }) => closed.push(...trees), lingerMs) }
}

t.test('shared by all who hold it, closed with the last lease', async (t) => {
  const { cache, closed } = cacheOf()
  t.equal(cache.lease('a'), undefined)
  const first = cache.add('a', image(5))
  const second = cache.lease('a')!
  t.equal(second.image, first.image)
  t.equal(cache.lease('b'), undefined, 'another image')
  first.release(false)
  first.release(false)
  t.same(closed, [], 'the same lease ends once')
  second.release(false)
  t.same(closed, [5])
  t.equal(cache.lease('a'), undefined)
})

t.test('mounted twice at the same time: the second is closed', async (t) => {
  const { cache, closed } = cacheOf()
  const first = cache.add('a', image(5))
  const second = cache.add('a', image(6))
  t.equal(second.image, first.image)
  t.same(closed, [6])
})

t.test('it stays for a moment for the next one-shot call', async (t) => {
  const { cache, closed } = cacheOf(30)
  cache.add('a', image(5)).release(true)
  t.same(closed, [])
  const next = cache.lease('a')
  t.equal(next?.image.fd.fd, 5)
  await sleep(60)
  t.same(closed, [], 'held')
  t.equal(cache.lease('a'), undefined, 'but not found any more')
  const newer = cache.add('a', image(6))
  next?.release(true)
  t.same(closed, [5], 'closed with its last lease')
  t.equal(cache.lease('a')?.image, newer.image)
})

t.test('trim', async (t) => {
  const { cache, closed } = cacheOf()
  cache.add('a', image(5)).release(true)
  const held = cache.add('b', image(6))
  cache.trim()
  t.same(closed, [5])
  t.equal(cache.lease('b'), undefined, 'whoever comes now begins anew')
  held.release(true)
  t.same(closed, [5, 6])
})
