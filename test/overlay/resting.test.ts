import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Resting } from '../../lib/overlay/resting.js'

const restingOf = (ms: number) => {
  const retired: object[] = []
  const resting = new Resting<{ id: number }>((entry) => {
    resting.delete(entry)
    retired.push(entry)
  }, ms)
  return { resting, retired }
}
const entries = (count: number) => Array.from({ length: count }, (_, id) => ({ id }))

t.test('of many those that came last', async (t) => {
  const { resting, retired } = restingOf(60_000)
  const all = entries(40)
  resting.add(all[0]!)
  resting.wake(all[0]!)
  for (const each of all.slice(1)) resting.add(each)
  t.same(retired, all.slice(1, 8), '32 are kept, and who is in use does not count')
  resting.add(all[0]!)
  t.same(retired, all.slice(1, 9))
  for (const each of all) resting.delete(each)
})

t.test('for a while, which counts from the first rest', async (t) => {
  const { resting, retired } = restingOf(20)
  const [used, gone] = entries(2) as [{ id: number }, { id: number }]
  resting.add(used)
  resting.add(gone)
  resting.delete(gone)
  resting.wake(used)
  await sleep(60)
  t.same(retired, [used], 'also of one that is in use by then')
})
