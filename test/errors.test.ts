import { statSync } from 'node:fs'
import { inspect } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import {
  invalidArgType,
  invalidArgValue,
  invalidState,
  MountError,
  outOfRange,
  printable,
  SyscallError,
  unknownOption,
} from '../lib/errors.js'

const create = 'fsconfig(4, FSCONFIG_CMD_CREATE, NULL, NULL, 0)'

t.test('SyscallError has the shape of an fs error', async (t) => {
  const error = new SyscallError({
    errno: 2,
    syscall: 'statx',
    call: 'statx(…)',
    path: '/nope',
    dest: '/there',
  })
  let model: NodeJS.ErrnoException | undefined
  try {
    statSync('/nope')
  } catch (caught) {
    model = caught as NodeJS.ErrnoException
  }
  for (const key of ['errno', 'code', 'path'] as const) t.equal(error[key], model?.[key], key)
  t.match(error, { syscall: 'statx', dest: '/there', call: 'statx(…)', log: [] })
  t.match(model?.message, /^ENOENT: no such file or directory, /)
  t.equal(error.message, 'ENOENT: no such file or directory, statx(…)')
  t.type(error, Error)
  t.equal(error.name, 'SyscallError')
  t.match(error.stack, /^SyscallError: ENOENT/)
  t.same(Object.keys(error).sort(), ['call', 'code', 'dest', 'errno', 'log', 'path', 'syscall'])
})

t.test('what is not known is not there', async (t) => {
  const error = new SyscallError({ errno: 22, syscall: 'fsconfig', call: create, path: undefined })
  for (const key of ['path', 'dest', 'hint', 'cause']) t.notOk(key in error, key)
  const mounting = new MountError({ errno: 22, syscall: 'fsconfig', call: create })
  for (const key of ['step', 'rung']) t.notOk(key in mounting, key)
})

t.test('the message holds call, log and hint', async (t) => {
  const options = { errno: 22, syscall: 'fsconfig', call: create }
  const log = ["overlay: Unknown parameter 'x'", 'overlay: more']
  t.equal(
    new SyscallError({ ...options, log, hint: 'another word' }).message,
    `EINVAL: invalid argument, ${create} [overlay: Unknown parameter 'x'; overlay: more] (hint: another word)`,
  )
  t.equal(
    new SyscallError({ ...options, hint: 'another word' }).message,
    `EINVAL: invalid argument, ${create} (hint: another word)`,
  )
  t.match(new SyscallError({ ...options, errno: 524 }), { code: 'ERRNO_524', errno: -524 })
  const cause = new Error('before')
  t.equal(new SyscallError({ ...options, cause }).cause, cause)
})

t.test('the log is a copy', async (t) => {
  const log = ['one']
  const error = new SyscallError({ errno: 22, syscall: 'fsconfig', call: create, log })
  log.push('two')
  t.same(error.log, ['one'])
})

t.test('MountError adds where in the plan', async (t) => {
  const error = new MountError({ errno: 22, syscall: 'fsconfig', call: create, step: 0, rung: 'direct' })
  t.type(error, SyscallError)
  t.match(error, { name: 'MountError', code: 'EINVAL', step: 0, rung: 'direct' })
  t.match(error.stack, /^MountError: EINVAL/)
})

t.test('paths of errors are strings, whatever their bytes', async (t) => {
  const at = (path: string | Uint8Array) =>
    new SyscallError({ errno: 2, syscall: 'x', call: 'x()', path }).path
  t.equal(at('/ü\n'), '/ü\n')
  t.equal(at(Buffer.from('/ü\n')), '/ü\n')
  t.equal(at(Buffer.from([0x2f, 0xff, 0x31])), '/\\3771')
  t.equal(at(Buffer.from('\ufeff/x')), '\ufeff/x', 'a byte order mark is part of a name')
})

t.test('printable, as strace prints', async (t) => {
  t.equal(printable('/plain path'), '/plain path')
  t.equal(printable('a"b\\c\n\t\v\f\r'), 'a\\"b\\\\c\\n\\t\\v\\f\\r')
  t.equal(printable('é'), '\\303\\251')
  t.equal(printable(Buffer.from([1, 0x61, 1, 0x31, 0x7f, 0xff])), '\\1a\\0011\\177\\377')
  t.equal(printable(''), '')
})

t.test('printable can be read back', async (t) => {
  const named: Record<string, number> = { n: 10, t: 9, v: 11, f: 12, r: 13, '"': 34, '\\': 92 }
  const readBack = (text: string): number[] =>
    [...text.matchAll(/\\([0-7]{1,3})|\\(.)|([^\\])/gs)].map(([, octal, escaped, plain]) => {
      if (octal !== undefined) return Number.parseInt(octal, 8)
      return escaped === undefined ? (plain as string).charCodeAt(0) : (named[escaped] as number)
    })
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      const text = printable(bytes)
      t.match(text, /^[ -~]*$/)
      return Buffer.from(readBack(text)).equals(Buffer.from(bytes))
    }),
  )
})

t.test('wrong types', async (t) => {
  class Layer {}
  const received: [unknown, string][] = [
    [7, 'type number (7)'],
    [7n, 'type bigint (7n)'],
    [true, 'type boolean (true)'],
    ['word', "type string ('word')"],
    ['x'.repeat(99), `type string ('${'x'.repeat(27)}...)`],
    [Symbol('s'), 'type symbol (Symbol(s))'],
    [undefined, 'undefined'],
    [null, 'null'],
    [function named() {}, 'function named'],
    [() => {}, 'a function'],
    [new Layer(), 'an instance of Layer'],
    [[], 'an instance of Array'],
    [Object.create(null), '[Object: null prototype] {}'],
  ]
  for (const [value, text] of received) {
    const error = invalidArgType('options.lowerdir[3]', 'string or Buffer', value)
    t.type(error, TypeError)
    t.equal(error.code, 'ERR_INVALID_ARG_TYPE')
    t.equal(
      error.message,
      `The "options.lowerdir[3]" argument must be of type string or Buffer. Received ${text}`,
    )
  }
  const phrase = invalidArgType('lowerdir', 'an array of paths', 1)
  t.equal(phrase.message, 'The "lowerdir" argument must be an array of paths. Received type number (1)')
})

t.test('wrong values', async (t) => {
  const error = invalidArgValue('path', '/a\0b', 'must not hold a NUL byte')
  t.type(error, TypeError)
  t.match(error, {
    code: 'ERR_INVALID_ARG_VALUE',
    message: 'The "path" argument must not hold a NUL byte. Received \'/a\\x00b\'',
  })
  const hostile = { [inspect.custom]: () => t.fail('code of the value was run'), key: 1 }
  t.match(invalidArgValue('x', hostile, 'is bad').message, 'Received { key: 1')
  t.ok(invalidArgValue('x', 'y'.repeat(10_000), 'is bad').message.length < 200)
})

t.test('out of range', async (t) => {
  const error = outOfRange('length', '>= 0', -1)
  t.type(error, RangeError)
  t.match(error, {
    code: 'ERR_OUT_OF_RANGE',
    message: 'The value of "length" is out of range. It must be >= 0. Received -1',
  })
})

t.test('unknown options', async (t) => {
  const known = ['lowerdir', 'upperdir', 'workdir', 'volatile']
  const cases: [string, string][] = [
    ['lowerDir', 'There is no option "lowerDir". Did you mean "lowerdir"?'],
    ['options.volatil', 'There is no option "options.volatil". Did you mean "volatile"?'],
    ['uperdirs', 'There is no option "uperdirs". Did you mean "upperdir"?'],
    ['LOWERDIR', 'There is no option "LOWERDIR". Did you mean "lowerdir"?'],
    ['x', 'There is no option "x". Known options: lowerdir, upperdir, workdir, volatile'],
    ['nonsense', 'There is no option "nonsense". Known options: lowerdir, upperdir, workdir, volatile'],
  ]
  for (const [name, message] of cases) {
    t.match(unknownOption(name, known), { code: 'ERR_INVALID_ARG_VALUE', message })
  }
  t.type(unknownOption('x', known), TypeError)
})

t.test('invalid state', async (t) => {
  t.match(invalidState('the stack is closed'), {
    code: 'ERR_INVALID_STATE',
    message: 'Invalid state: the stack is closed',
  })
})
