import os from 'node:os'
import { getSystemErrorMap } from 'node:util'
import t from 'tap'
import { binding } from '../lib/binding.js'
import { errnoName, errnoNumber, errnoNumbers, errnoText } from '../lib/errno.js'

/** libuv's text for it speaks of sockets, whatever the call was. */
const OWN_TEXTS = new Set(['EOPNOTSUPP'])
/** Numbers of libuv itself, and the second name of one of Linux. */
const isLinux = (name: string): boolean => errnoNumber(name) !== undefined && name !== 'ENOTSUP'

t.test('numbers are those of the runtime', async (t) => {
  const known = Object.entries(os.constants.errno)
  t.ok(known.length > 70)
  for (const [name, number] of known) {
    t.equal(errnoNumber(name), number, name)
    t.equal(errnoNumber(errnoName(number)), number, `${name} and back`)
  }
})

t.test('texts are those of fs errors, where Node knows the number', async (t) => {
  const known = [...getSystemErrorMap()].filter(([, [name]]) => isLinux(name))
  t.ok(known.length > 60)
  for (const [negative, [name, text]] of known) {
    if (OWN_TEXTS.has(name)) continue
    t.equal(errnoName(-negative), name)
    t.equal(errnoText(-negative), text, name)
  }
})

t.test('texts are those of the C library otherwise', async (t) => {
  const report = process.report.getReport() as unknown as { header: Record<string, unknown> }
  if (report.header['glibcVersionRuntime'] === undefined) return t.comment('musl has texts of its own')
  const uv = getSystemErrorMap()
  const others = errnoNumbers.filter((number) => !uv.has(-number) || OWN_TEXTS.has(errnoName(number)))
  t.ok(others.length > 40)
  for (const number of others) {
    t.equal(errnoText(number).toLowerCase(), binding.strerror(number).toLowerCase(), errnoName(number))
  }
})

t.test('no number and no name twice', async (t) => {
  t.equal(new Set(errnoNumbers).size, errnoNumbers.length)
  t.equal(new Set(errnoNumbers.map(errnoName)).size, errnoNumbers.length)
  t.same(
    errnoNumbers,
    [...errnoNumbers].sort((a, b) => a - b),
  )
})

t.test('second names, and what is none', async (t) => {
  t.equal(errnoNumber('EWOULDBLOCK'), 11)
  t.equal(errnoNumber('ENOTSUP'), 95)
  t.equal(errnoName(95), 'EOPNOTSUPP', 'as strace has it')
  t.equal(errnoNumber('ENONSENSE'), undefined)
  t.equal(errnoNumber('toString'), undefined)
  t.equal(errnoName(524), 'ERRNO_524')
  t.equal(errnoText(524), 'unknown system error 524')
})
