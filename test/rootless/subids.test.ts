/** /etc/subuid: which lines are whose, and the mapping made of them. */
import t from 'tap'
import { parseIdmap } from '../../lib/idmap.js'
import { mappingOf, parseSubids } from '../../lib/rootless/subids.js'

const owner = { name: 'app', uid: 1000 }

t.test('lines', async (t) => {
  const table: [string, [number, number][]][] = [
    ['', []],
    ['app:100000:65536\n', [[100_000, 65_536]]],
    ['other:1:2\napp:100000:65536\n1000:300000:10\nappendix:5:5\n10000:7:7', [[100_000, 65_536], [300_000, 10]]],
    ['# app:1:2\n\n  app:5:1  \r\n', [[5, 1]]],
    ['app:5\napp:x:1\napp:1:0\napp::1\n:1:1\napp:1:1:1\napp:-1:5', []],
    ['app:4294967294:1\napp:4294967294:2\napp:4294967295:1', [[4_294_967_294, 1]]],
  ] // biome-ignore format: a table
  for (const [text, expected] of table) {
    const found = parseSubids(text, owner).map(({ first, count }) => [first, count])
    t.same(found, expected, JSON.stringify(text))
  }
  const nameless = parseSubids('undefined:1:2\n1000:5:6\n', { name: undefined, uid: 1000 })
  t.same(nameless, [{ first: 5, count: 6 }])
})

t.test('a mapping is one that the kernel takes', async (t) => {
  const ranges = [
    { first: 100_000, count: 65_536 },
    { first: 300_000, count: 10 },
  ]
  const mapping = mappingOf(1000, ranges)
  t.same(mapping, [
    { inside: 0, outside: 1000, length: 1 },
    { inside: 1, outside: 100_000, length: 65_536 },
    { inside: 65_537, outside: 300_000, length: 10 },
  ])
  t.ok(parseIdmap({ uid: mapping, gid: mapping }, 'idmap'))
})

t.test(
  'ids that are listed twice, and the own one, are mapped once: the kernel takes no others',
  async (t) => {
    const table: [ranges: [number, number][], expected: [inside: number, outside: number, length: number][]][] = [
    // by name and by number
    [[[100, 50], [100, 50]], [[1, 100, 50]]],
    [[[100, 50], [120, 50]], [[1, 100, 50], [51, 150, 20]]],
    [[[120, 10], [100, 50]], [[1, 120, 10], [11, 100, 20], [31, 130, 20]]],
    [[[995, 10]], [[1, 995, 5], [6, 1001, 4]]],
    [[[1000, 1], [5, 1]], [[1, 5, 1]]],
  ] // biome-ignore format: a table
    for (const [ranges, expected] of table) {
      const mapping = mappingOf(
        1000,
        ranges.map(([first, count]) => ({ first, count })),
      )
      const rest = mapping.slice(1).map(({ inside, outside, length }) => [inside, outside, length])
      t.same(rest, expected, JSON.stringify(ranges))
      t.ok(parseIdmap({ uid: mapping, gid: mapping }, 'idmap'))
    }
  },
)
