import { closeSync, mkdirSync, mkdtempSync, openSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { cString, workingDirectory } from '../lib/path.js'

t.test('bytes and one NUL', async (t) => {
  t.same(cString('/ü', 'path'), Buffer.from('/ü\0'))
  t.same(cString(new Uint8Array([0x2f, 0xff]), 'path'), Buffer.from([0x2f, 0xff, 0]))
  fc.assert(
    fc.property(fc.uint8Array({ min: 1, minLength: 1 }), (bytes) => {
      const result = cString(bytes, 'path')
      return result.length === bytes.length + 1 && Buffer.from(bytes).equals(result.subarray(0, -1))
    }),
  )
})

t.test('memory of its own', async (t) => {
  const bytes = Buffer.from('/a')
  const result = cString(bytes, 'path')
  bytes.fill('x')
  t.same(result, Buffer.from('/a\0'))
})

t.test('what is refused', async (t) => {
  const name = 'options.upperdir'
  for (const path of ['/a\0b', '\0', Buffer.from('/a\0'), new Uint8Array([0])]) {
    t.throws(() => cString(path, name), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: '"options.upperdir" argument must not hold a NUL byte',
    })
  }
  for (const path of ['/\ud800', '/\udc00x']) {
    t.throws(() => cString(path, name), { code: 'ERR_INVALID_ARG_VALUE', message: 'lone surrogate' })
  }
  t.same(cString('/😀', name), Buffer.from('/😀\0'), 'a pair of surrogates is a character')
  for (const path of [undefined, null, 7, {}, ['/a'], new Uint16Array(1), new URL('file:///a')]) {
    t.throws(() => cString(path as unknown as string, name), {
      name: 'TypeError',
      code: 'ERR_INVALID_ARG_TYPE',
      message: '"options.upperdir" argument must be of type string or Buffer',
    })
  }
})

t.test('an empty path, where it is allowed', async (t) => {
  for (const path of ['', Buffer.alloc(0)]) {
    t.throws(() => cString(path, 'path'), { code: 'ERR_INVALID_ARG_VALUE', message: 'must not be empty' })
    t.same(cString(path, 'path', { empty: true }), Buffer.from('\0'))
  }
})

t.test('the working directory, as the kernel has it', async (t) => {
  const [own, dir] = [process.cwd(), mkdtempSync(join(tmpdir(), 'overlayfd-test-'))]
  t.teardown(() => {
    process.chdir(own)
    rmSync(dir, { recursive: true, force: true })
  })
  t.equal(workingDirectory().toString(), own)
  const bytes = Buffer.from(`${dir}/\xff`, 'latin1')
  mkdirSync(bytes)
  const fd = openSync(bytes, 'r')
  process.chdir(`/proc/self/fd/${fd}`)
  closeSync(fd)
  t.same(workingDirectory(), Buffer.concat([realpathSync.native(dir, 'buffer'), bytes.subarray(-2)]))
  rmSync(bytes, { recursive: true })
  t.throws(() => workingDirectory(), { code: 'ENOENT', syscall: 'getcwd' })
})
