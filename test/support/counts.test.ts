import { closeSync, openSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { counts, fds, residentKilobytes, settled, slabKilobytes, threads } from './counts.js'

t.test('fds: with what they refer to, without that of the listing', async (t) => {
  const before = fds()
  const fd = openSync('/dev/null', 'r')
  t.same(
    [...fds()].filter(([each]) => !before.has(each)),
    [[fd, '/dev/null']],
  )
  closeSync(fd)
  t.same(fds(), before)
})

t.test('threads: with their names', async (t) => {
  const before = threads()
  t.equal(before.size > 1 && before.has(process.pid), true)
  const worker = new Worker('setInterval(() => {}, 1000)', { eval: true })
  await new Promise((resolve) => worker.once('online', resolve))
  t.ok(threads().size > before.size)
  await worker.terminate()
  t.equal((await settled(threads, ({ size }) => size === before.size)).size, before.size)
})

t.test('counts of another process', async (t) => {
  t.ok(counts(process.ppid).fds > 0 && counts(process.ppid).threads > 0 && counts(process.ppid).mounts > 0)
})

t.test('memory', async (t) => {
  const before = residentKilobytes()
  const held = Buffer.alloc(64 << 20, 1)
  t.ok(residentKilobytes() - before > 32 << 10, 'of this process')
  t.equal(held.length, 64 << 20)
  t.ok(slabKilobytes().total > slabKilobytes().unreclaimable && slabKilobytes().unreclaimable > 0)
})

t.test('settled gives the last value when the time is over', async (t) => {
  let reads = 0
  t.equal(
    await settled(
      () => ++reads,
      (value) => value === 3,
    ),
    3,
  )
  t.ok(
    (await settled(
      () => ++reads,
      () => false,
      50,
    )) > 4,
  )
})
