import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { parseIdmap } from '../../lib/idmap.js'
import type { Leftovers } from '../../lib/overlay/host.js'
import { MappingCache } from '../../lib/overlay/mappings.js'

const idmap = (outside: number) => {
  const ids = [{ inside: 0, outside, length: 65_536 }]
  return parseIdmap({ uid: ids, gid: ids }, 'idmap')
}
const identity = { dev: 1n, ino: 2n, mountId: 3n }
const tree = (fd: number) => ({ fd, identity })
const path = Buffer.from('/layers')
const other = Buffer.from([0x2f, 0xff])

/** A cache, and what it gave away to be closed. */
const cacheOf = (lingerMs?: number) => {
  const closed: Leftovers[] = []
  return { cache: new MappingCache((leftovers) => closed.push(leftovers), lingerMs), closed }
}

t.test('equal mappings share their namespace and trees', async (t) => {
  const { cache, closed } = cacheOf()
  const [first, second, another] = [cache.lease(idmap(1)), cache.lease(idmap(1)), cache.lease(idmap(2))]
  t.equal(first.usernsFd, undefined)
  t.equal(first.tree(path), undefined)
  first.addUserns(10)
  first.addTree(path, tree(20))
  t.equal(second.usernsFd, 10)
  t.same(second.tree(Buffer.from(path)), tree(20), 'by the bytes of the path')
  t.equal(second.tree(other), undefined)
  t.equal(another.usernsFd, undefined)
  another.release(false)
  first.release(false)
  t.same(closed, [{ fds: [], trees: [] }], 'what is still leased stays')
  first.release(false)
  t.same(second.tree(path), tree(20), 'a lease ends once')
  second.release(false)
  t.same(closed.slice(1), [{ fds: [10], trees: [20] }])
  const again = cache.lease(idmap(1))
  t.equal(again.usernsFd, undefined, 'and is gone for the next')
  t.equal(again.tree(path), undefined)
})

t.test('what was made twice is closed with the rest', async (t) => {
  const { cache, closed } = cacheOf()
  const lease = cache.lease(idmap(1))
  lease.addUserns(10)
  lease.addUserns(11)
  lease.addTree(path, tree(20))
  lease.addTree(path, tree(21))
  lease.addTree(other, tree(22))
  lease.dropTree(other)
  lease.dropTree(Buffer.from('/nothing'))
  t.equal(lease.usernsFd, 10, 'the first namespace is kept')
  t.same(lease.tree(path), tree(21), 'the last tree is')
  t.equal(lease.tree(other), undefined)
  lease.release(false)
  t.same(closed, [{ fds: [10], trees: [21, 11, 20, 22] }])
})

t.test('a released mapping may linger', async (t) => {
  const { cache, closed } = cacheOf(30)
  const first = cache.lease(idmap(1))
  first.addUserns(10)
  first.release(true)
  t.same(closed, [])
  const second = cache.lease(idmap(1))
  t.equal(second.usernsFd, 10, 'the next call finds it')
  second.release(true)
  t.same(closed, [])
  await sleep(60)
  t.same(closed, [{ fds: [10], trees: [] }])
})

t.test('calls in quick succession do not keep it for ever', async (t) => {
  const { cache, closed } = cacheOf(30)
  const first = cache.lease(idmap(1))
  first.addUserns(10)
  first.release(true)
  const second = cache.lease(idmap(1))
  await sleep(60)
  t.same(closed, [], 'what is leased stays')
  t.equal(second.usernsFd, 10)
  const third = cache.lease(idmap(1))
  t.equal(third.usernsFd, undefined, 'and is found no more')
  third.addUserns(11)
  second.release(true)
  t.same(closed.splice(0), [{ fds: [10], trees: [] }], 'it goes with its last lease')
  third.release(false)
  t.same(closed, [{ fds: [11], trees: [] }])
})

t.test('trim ends the wait, and takes nothing from anybody', async (t) => {
  const { cache, closed } = cacheOf()
  const [lingering, held] = [cache.lease(idmap(1)), cache.lease(idmap(2))]
  lingering.addUserns(10)
  held.addUserns(11)
  lingering.release(true)
  cache.trim()
  t.same(closed, [{ fds: [10], trees: [] }])
  cache.trim()
  t.equal(closed.length, 1)
  t.equal(held.usernsFd, 11)
  t.equal(cache.lease(idmap(2)).usernsFd, undefined, 'whoever comes now begins anew')
  held.release(true)
  t.same(closed.slice(1), [{ fds: [11], trees: [] }], 'what was trimmed does not linger')
})

t.test('a namespace of somebody else is never shared, and never lingers', async (t) => {
  const { cache, closed } = cacheOf()
  for (const userns of [7, Buffer.from('/proc/7/ns/user')]) {
    const [first, second] = [cache.lease({ userns }), cache.lease({ userns })]
    first.addUserns(10)
    t.equal(second.usernsFd, undefined)
    first.release(true)
    t.same(closed.splice(0), [{ fds: [10], trees: [] }])
    second.release(false)
    closed.length = 0
  }
})

t.test('a lingering mapping does not keep the process alive', async (t) => {
  const { cache } = cacheOf(100_000)
  const before = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  cache.lease(idmap(1)).release(true)
  t.equal(process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length, before)
  cache.trim()
})
