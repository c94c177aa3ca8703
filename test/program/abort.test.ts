import { getEventListeners } from 'node:events'
import t from 'tap'
import { whenAborted } from '../../lib/program/abort.js'

const listeners = (signal: AbortSignal) => getEventListeners(signal, 'abort').length

t.test('each is called once when the signal fires, unless it was forgotten', async (t) => {
  const abort = new AbortController()
  const called: string[] = []
  const forgets = ['one', 'two', 'three'].map((name) => whenAborted(abort.signal, () => called.push(name)))
  forgets[1]!()
  forgets[1]!()
  t.same(called, [])
  abort.abort()
  t.same(called, ['one', 'three'])
  for (const forget of forgets) forget()
  t.equal(listeners(abort.signal), 0)
})

t.test('signals do not know of each other', async (t) => {
  const [one, two] = [new AbortController(), new AbortController()]
  const called: string[] = []
  whenAborted(one.signal, () => called.push('one'))
  whenAborted(two.signal, () => called.push('two'))
  two.abort()
  t.same(called, ['two'])
})

t.test('one listener, however many programs and however often', async (t) => {
  const { signal } = new AbortController()
  const warnings: Error[] = []
  const onWarning = (warning: Error) => warnings.push(warning)
  process.on('warning', onWarning)
  for (let round = 0; round < 3; round++) {
    const forgets = Array.from({ length: 20 }, () => whenAborted(signal, () => {}))
    t.equal(listeners(signal), 1)
    for (const forget of forgets) forget()
  }
  await new Promise((resolve) => setImmediate(resolve))
  process.off('warning', onWarning)
  t.same(warnings, [])
})

t.test('the same function twice is two programs', async (t) => {
  const abort = new AbortController()
  let calls = 0
  const count = () => {
    calls++
  }
  const forget = whenAborted(abort.signal, count)
  whenAborted(abort.signal, () => count())
  forget()
  abort.abort()
  t.equal(calls, 1)
})
