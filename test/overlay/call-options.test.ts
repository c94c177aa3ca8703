import t from 'tap'
import { Mounter } from '../../lib/mounter.js'
import { checkCall } from '../../lib/overlay/call-options.js'

const both = ['signal', 'mounter'] as const
const check = (call: unknown, known: readonly ('signal' | 'mounter')[] = both) =>
  checkCall(call as { signal?: AbortSignal; mounter?: unknown }, known)

t.test('accepted, and what it holds handed on', async (t) => {
  const { signal } = new AbortController()
  const mounter = new Mounter()
  const copy = { mount() {}, mountSync() {}, open() {}, openSync() {} }
  const calls = [
    {},
    { signal },
    { mounter },
    { mounter: copy, signal },
    { signal: undefined, mounter: undefined },
  ]
  for (const call of calls) t.same(check(call), call)
})

t.test('refused', async (t) => {
  const type = 'ERR_INVALID_ARG_TYPE'
  const value = 'ERR_INVALID_ARG_VALUE'
  const table: [unknown, string, string][] = [
    [null, type, 'The "call" argument must be an object'],
    ['direct', type, 'The "call" argument must be an object'],
    [[], type, 'The "call" argument must be an object. Received an instance of Array'],
    [{ sginal: 1 }, value, 'no option "call.sginal". Did you mean "signal"?'],
    [Object.create({ sginal: 1 }), value, 'no option "call.sginal"'],
    [{ rung: 'direct' }, value, 'Known options: signal, mounter'],
    [{ signal: null }, type, 'The "call.signal" argument must be an AbortSignal'],
    [{ signal: new AbortController() }, type, '"call.signal"'],
    [{ signal: { aborted: false } }, type, '"call.signal"'],
    [{ mounter: null }, type, 'The "call.mounter" argument must be a Mounter'],
    [{ mounter: 'default' }, type, '"call.mounter"'],
    [{ mounter: { mount() {}, open() {} } }, type, '"call.mounter"'],
    [{ mounter: Mounter }, type, '"call.mounter"'],
  ]
  for (const [call, code, message] of table) t.throws(() => check(call), { name: 'TypeError', code, message })
  t.throws(
    () => check({ signal: undefined }, ['mounter']),
    { code: value, message: '"call.signal"' },
    'not for this call',
  )
})
