import t from 'tap'
import { decodeResult, identityOf, type ProgramResult, splitLog } from '../../lib/program/result.js'

const none = 0xffff_ffff

interface Parts {
  /** job, status, step, errno */
  head: [number, number, number, number]
  outputs?: number[]
  reports?: number[]
  timings?: number[]
  log?: string
  claim?: bigint
}

/** What native/environment.cc makes: twelve words, outputs, reports, timings, log; an even number of words. */
const words = ({ head, outputs = [], reports = [], timings = [], log = '', claim = 0n }: Parts): number[] => {
  const sizes = [outputs.length, reports.length, timings.length, Buffer.byteLength(log)]
  const text = Buffer.alloc(Math.ceil(Buffer.byteLength(log) / 8) * 8)
  text.write(log)
  const rest = [
    ...[...head, ...sizes, Number(claim & 0xffff_ffffn), Number(claim >> 32n), 0],
    ...[...outputs, ...(outputs.length % 2 ? [0] : []), ...reports, ...timings],
    ...new Uint32Array(text.buffer, text.byteOffset, text.length / 4),
  ]
  return [rest.length + 1, ...rest]
}
const viewOf = (list: readonly number[]) => new DataView(new Uint32Array(list).buffer)
const all: Parts = {
  head: [4711, 1, 7, 22],
  outputs: [5, none, 6],
  reports: [9, 2, 0x1122_3344, 0x5566_7788, 2, 1, 42, 0],
  timings: [0, 1500, 0, 0, 7, 1, 2, 0],
  log: 'e overlay: one\nw overlay: "zwö"\n',
  claim: 0x1_0000_0007n,
}

t.test('every part of a result', async (t) => {
  const list = words({ ...all, reports: all.reports!.slice(0, -1), timings: all.timings! })
  const found = decodeResult(viewOf(list))
  t.match(found, { job: 4711, status: 'failed', step: 7, errno: 22, outputs: [5, -1, 6] })
  t.equal(found.words, list.length)
  t.equal(found.hasReports, true)
  t.equal(found.report(9)?.readBigUInt64LE(), 0x5566_7788_1122_3344n)
  t.same(found.report(2), Buffer.from([42, 0, 0, 0]))
  for (const step of [0, 1, 7, 42, 0x1122_3344]) t.equal(found.report(step), undefined, `nothing of ${step}`)
  t.same(found.timings, [
    { step: 0, nanoseconds: 1500 },
    { step: 7, nanoseconds: 2 * 2 ** 32 + 1 },
  ])
  t.same(found.log, ['overlay: one', 'overlay: "zwö"'])
  t.equal(found.claim, 2 ** 32 + 7)
})

t.test('statuses', async (t) => {
  const statuses = ['done', 'failed', 'unexpected', 'aborted', 'malformed', 'malformed']
  for (const [number, status] of statuses.entries()) {
    const found = decodeResult(viewOf(words({ head: [3, number, none, 0] })))
    t.match(found, {
      ...{ job: 3, status, step: none, errno: 0, outputs: [], claim: 0 },
      ...{ hasReports: false, timings: [], log: [], words: 12 },
    })
    t.same([found.outputs, found.timings, found.log], [[], [], []])
    t.equal(found.report(0), undefined)
  }
})

t.test('what is to be kept is copied: the memory is written to again', async (t) => {
  const view = new DataView(new Uint32Array([0, 0, ...words(all)]).buffer)
  const found = decodeResult(view, 2)
  const copy = found.copy()
  const before = [
    found.job,
    found.outputs,
    found.log,
    found.claim,
    found.words,
    Buffer.from(found.report(9)!),
  ]
  new Uint8Array(view.buffer).fill(0xff)
  t.same([copy.job, copy.outputs, copy.log, copy.claim, copy.words, copy.report(9)], before)
  t.not(found.job, copy.job)
})

t.test('several, one after the other, somewhere in a larger buffer', async (t) => {
  const parts: Parts[] = [
    { head: [1, 0, none, 0], outputs: [8] },
    all,
    { head: [2, 0, none, 0], reports: [1, 1, 77, 0] },
    { head: [3, 1, 0, 2], log: 'e x' },
  ]
  const list = [0, 0, ...parts.flatMap(words)]
  const view = new DataView(new Uint32Array([1, 2, ...list, 3, 4]).buffer, 8)
  const found: ProgramResult[] = []
  for (let at = 2; at < list.length; at += found.at(-1)!.words) found.push(decodeResult(view, at))
  t.same(
    found.map(({ job, outputs, log }) => ({ job, outputs, log })),
    [
      { job: 1, outputs: [8], log: [] },
      { job: 4711, outputs: [5, -1, 6], log: ['overlay: one', 'overlay: "zwö"'] },
      { job: 2, outputs: [], log: [] },
      { job: 3, outputs: [], log: ['x'] },
    ],
  )
  t.equal(found[1]?.report(9)?.readBigUInt64LE(), 0x5566_7788_1122_3344n)
  t.equal(found[2]?.report(1)?.readUInt32LE(), 77, 'its own, not that of the one before')
  t.equal(found[2]?.report(9), undefined)
})

t.test('a log ends where its length says', async (t) => {
  const list = words({ head: [1, 1, 0, 1], log: 'e x\n\0\0\0\0' })
  list[8] = 4
  t.same(decodeResult(viewOf(list)).log, ['x'])
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
