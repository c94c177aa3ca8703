/** What a rootfs is written down as, and what of it is refused: every field, with every kind of wrong value. */
import t from 'tap'
import { bootId, type Phase, readMount, writeMount } from '../../lib/overlay/handover-json.js'

const read = (json: unknown) => readMount(json, ['overlay', 'clone'])

const mount = {
  rung: 'direct' as const,
  kind: 'overlay' as const,
  phase: 'attached' as Phase,
  target: Buffer.from('/c/7/rootfs'),
  mountId: 0xffff_ffff_ffff_ffffn,
  unique: true,
  dev: 42n << 32n,
  ino: 7n,
  namespace: 4026531841,
  mark: 'overlayfd:1/2@3',
  uppers: [
    [1n, 2n],
    [1n, 3n],
  ] as [bigint, bigint][],
}

t.test('written and read back, as text and as an object', async (t) => {
  const json = writeMount(mount)
  t.match(json, { version: 1, target: '/c/7/rootfs', mountId: '18446744073709551615', boot: bootId()! })
  t.match(bootId(), /^[0-9a-f-]{36}$/)
  const { phase, ...rest } = mount
  for (const form of [json, JSON.stringify(json), JSON.parse(JSON.stringify(json))]) {
    t.same(read(form), { ...rest, phase, boot: bootId() })
  }
  const bytes = Buffer.from('/c/\xff\xfe"\n', 'latin1')
  const odd = JSON.stringify(
    writeMount({ ...mount, target: bytes, ino: undefined, mark: undefined, uppers: [] }),
  )
  t.match(JSON.parse(odd), { target: '/c/\ufffd\ufffd"\n', targetBytes: bytes.toString('base64') })
  t.match(read(odd), { target: bytes, ino: undefined, mark: undefined })
  t.equal(read({ ...json, rung: undefined }).rung, undefined, 'one that came as an fd')
  t.equal(read({ ...json, boot: null }).boot, undefined)
})

t.test('anything else is a TypeError that names the field', async (t) => {
  const good = writeMount(mount)
  const huge = '9'.repeat(400)
  const cases: [string, unknown[]][] = [
    ['json', ['', '{', 'null', 'true', '[]', '"x"', 7, null, undefined, [], () => good, Symbol('x'), '7n']],
    ['json.version', [{ ...good, version: 2 }, { ...good, version: '1' }, {}, '{}', new Map(), Buffer.alloc(8)]],
    ['json.kind', ['bind', 'tmpfs', '', 7, null, ['overlay'], { toString: () => 'overlay' }]],
    ['json.phase', ['', 'detached', 'Attached', undefined, 1]],
    ['json.rung', ['', 'fastest', '__proto__', 3, null, {}]],
    ['json.target', [undefined, null, 7, '', 'c/7', '/', '/..', '/c/..', '/c//7', '/c/./7', '/c/', '/c\0/7', `/${'x'.repeat(4095)}`, {}, ['/c']]],
    ['json.targetBytes', [7, null, '', Buffer.from('relative').toString('base64'), Buffer.from('/a\0b').toString('base64'), {}]],
    ['json.mountId', [undefined, 7, 7n, '', '-1', '0x10', '1e3', ' 7', '7\n', '07', '18446744073709551616', huge, {}]],
    ['json.dev', [undefined, 7, '', 'x', huge]],
    ['json.ino', [null, 7, '', '-3', huge]],
    ['json.unique', [undefined, null, 0, 'true']],
    ['json.namespace', [undefined, '7', 0, -1, 1.5, Number.NaN, Infinity, 2 ** 60, null]],
    ['json.boot', [undefined, 7, '', 'x', '../../../etc/passwd', bootId()?.toUpperCase(), `${bootId()}\n`]],
    ['json.source', [7, null, {}]],
    ['json.uppers', [7, {}, 'x', null, [1, 2, 3]]],
    ['json.uppers[0]', [[7], [['1']], [['1', '2', '3']], ['12']]],
    ['json.uppers[0][0]', [[[1, '2']], [['x', '2']], [[huge, '2']]]],
    ['json.uppers[1][1]', [[['1', '2'], ['1', null]]]],
  ] // biome-ignore format: a table
  for (const [name, values] of cases) {
    const field = /^json\.(\w+)/.exec(name)?.[1]
    for (const value of values) {
      const whole = field === undefined || name === 'json.version' ? value : { ...good, [field]: value }
      const error = { name: 'TypeError', code: /^ERR_INVALID_ARG_(TYPE|VALUE)$/ }
      let thrown: unknown
      try {
        read(whole)
      } catch (caught) {
        thrown = caught
      }
      t.match(thrown, error, `${name} ${typeof value}`)
      t.ok(String((thrown as Error).message).includes(`"${name}"`), (thrown as Error).message)
    }
  }
  t.throws(() => read({ ...good, phase: 'detached' }), { message: /handed over by its fd/ })
})

t.test('what is read is read once, and nothing of a prototype counts', async (t) => {
  let reads = 0
  const changing = Object.defineProperty({ ...writeMount(mount) }, 'target', {
    enumerable: true,
    get: () => (reads++ === 0 ? '/c/7/rootfs' : '/elsewhere'),
  })
  t.same(read(changing).target, Buffer.from('/c/7/rootfs'))
  t.equal(reads, 1)
  t.throws(() => read(Object.create(writeMount(mount))), { message: /json.version/ })
})
