import t from 'tap'
import { decodeResult, identityOf, splitLog } from '../../lib/program/result.js'

const none = 0xffff_ffff
/** What native/environment.cc makes: six words, outputs, reports, log. */
const bytes = (head: number[], rest: number[] = [], log = '') => {
  const words = new Uint32Array([...head, ...rest])
  return Buffer.concat([Buffer.from(words.buffer), Buffer.from(log)])
}

t.test('every part of a result', async (t) => {
  const log = 'e overlay: one\nw overlay: "zwö"\n'
  const found = decodeResult(
    bytes(
      [1, 7, 22, 3, 4 + 3, Buffer.byteLength(log)],
      [5, none, 6, 9, 2, 0x1122_3344, 0x5566_7788, 2, 1, 42],
      log,
    ),
  )
  t.match(found, { status: 'failed', step: 7, errno: 22, outputs: [5, -1, 6] })
  t.same([...found.reports.keys()], [9, 2])
  t.equal(found.reports.get(9)?.readBigUInt64LE(), 0x5566_7788_1122_3344n)
  t.same(found.reports.get(2), Buffer.from([42, 0, 0, 0]))
  t.same(found.log, ['overlay: one', 'overlay: "zwö"'])
})

t.test('statuses', async (t) => {
  const statuses = ['done', 'failed', 'unexpected', 'aborted', 'malformed', 'malformed']
  for (const [number, status] of statuses.entries()) {
    const found = decodeResult(bytes([number, none, 0, 0, 0, 0]))
    t.same(found, { status, step: none, errno: 0, outputs: [], reports: new Map(), log: [] })
  }
})

t.test('a log ends where its length says', async (t) => {
  const padded = bytes([1, 0, 1, 0, 0, 4], [], 'e x\n\0\0\0\0')
  t.same(decodeResult(padded).log, ['x'])
})

t.test('lines of a log', async (t) => {
  const cases: [string, string[]][] = [
    ['', []],
    ['e bad\n', ['bad']],
    ['w odd\ni fine\ne bad', ['odd', 'fine', 'bad']],
    ['no level', ['no level']],
    ['x y\n\n', ['x y']],
  ]
  for (const [text, lines] of cases) t.same(splitLog(text), lines)
})

t.test('what identifies a directory', async (t) => {
  const statx = Buffer.alloc(256)
  statx.writeBigUInt64LE(2n ** 63n + 1n, 32)
  statx.writeUInt32LE(8, 136)
  statx.writeUInt32LE(1, 140)
  statx.writeBigUInt64LE(4711n, 144)
  t.same(identityOf(statx), { ino: 2n ** 63n + 1n, dev: 0x1_0000_0008n, mountId: 4711n })
})
