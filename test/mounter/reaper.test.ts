import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Reaper } from '../../lib/mounter/reaper.js'

/** A reaper, and the fds of the plans that it started: ['trees', …] or ['fds', …] each. */
const reaperOf = () => {
  const sent: [string, ...number[]][] = []
  const reaper = new Reaper(({ inputs }) => {
    sent.push([inputs[0]?.[0].closes === 'tree' ? 'trees' : 'fds', ...inputs.map(([, fd]) => fd)])
  })
  return { reaper, sent }
}
const range = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i)
const turn = () => new Promise((resolve) => setImmediate(resolve))

t.test('fds go as soon as the call that dropped them has ended', async (t) => {
  const { reaper, sent } = reaperOf()
  t.equal(reaper.waiting, false)
  reaper.add({ fds: [1] })
  reaper.add({ fds: [2, 3] })
  t.equal(reaper.waiting, true)
  await Promise.resolve()
  t.same(sent, [], 'not before')
  await turn()
  t.same(sent, [['fds', 1, 2, 3]])
  t.equal(reaper.waiting, false)
  reaper.add({ fds: [4] })
  await turn()
  t.same(sent.slice(1), [['fds', 4]], 'and again')
})

t.test('64 fds are enough for a program; one has at most 2000', async (t) => {
  const { reaper, sent } = reaperOf()
  reaper.add({ fds: range(1, 63) })
  t.same(sent, [])
  reaper.add({ fds: [64] })
  t.same(sent, [['fds', ...range(1, 64)]])
  reaper.add({ fds: range(1000, 4500) })
  t.same(
    sent.slice(1).map(({ length }) => length - 1),
    [2000, 2000, 500],
  )
  t.same(
    sent.slice(1).flatMap(([, ...fds]) => fds),
    range(1000, 4500),
  )
  await turn()
  t.equal(sent.length, 4)
})

t.test('trees wait for 64, or for 50 ms', async (t) => {
  const { reaper, sent } = reaperOf()
  const begin = performance.now()
  reaper.add({ trees: range(1, 63) })
  await turn()
  t.same(sent, [])
  reaper.add({ trees: [64] })
  t.same(sent, [['trees', ...range(1, 64)]], 'the 64th sends them')
  reaper.add({ trees: [70] })
  await sleep(20)
  reaper.add({ trees: [71] })
  t.equal(sent.length, 1)
  while (sent.length === 1 && performance.now() - begin < 2000) await sleep(5)
  const waited = performance.now() - begin
  t.same(sent.slice(1), [['trees', 70, 71]])
  t.ok(waited >= 49 && waited < 1000, `the first waits for ${waited} ms`)
  t.equal(reaper.waiting, false)
})

t.test('more than a batch at once', async (t) => {
  const { reaper, sent } = reaperOf()
  reaper.add({ trees: range(1, 150), fds: [900] })
  t.same(
    sent.map(([kind, ...fds]) => [kind, fds.length]),
    [
      ['fds', 1],
      ['trees', 64],
      ['trees', 64],
      ['trees', 22],
    ],
  )
  await sleep(60)
  t.equal(sent.length, 4, 'the timer has nothing left to send')
})

t.test('send and take leave nothing', async (t) => {
  const { reaper, sent } = reaperOf()
  reaper.add({ trees: [1, 2], fds: [3] })
  const plans = reaper.take()
  t.same(
    plans.map(({ inputs }) => inputs.map(([, fd]) => fd)),
    [[3], [1, 2]],
  )
  t.equal(reaper.waiting, false)
  t.same(reaper.take(), [])
  reaper.send()
  await sleep(60)
  t.same(sent, [], 'what was taken is not sent as well')
  reaper.add({ trees: [4] })
  reaper.take()
  await sleep(30)
  const begin = performance.now()
  reaper.add({ trees: [4] })
  while (sent.length === 0) await sleep(1)
  t.ok(performance.now() - begin >= 49, 'nor does what comes after wait for less')
  sent.length = 0
  reaper.add({ trees: [5] })
  reaper.send()
  t.same(sent, [['trees', 5]])
  reaper.add({})
  t.equal(reaper.waiting, false)
})

t.test('what waits does not keep the process alive', async (t) => {
  const alive = () => process.getActiveResourcesInfo().filter((name) => /Timeout|Immediate/.test(name)).length
  const before = alive()
  const { reaper } = reaperOf()
  reaper.add({ trees: [1], fds: [2] })
  t.equal(alive(), before)
  reaper.take()
})
