import { resolve } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { absolute, ancestors, commonParent, isBelow, relativeTo, splitLast } from '../../lib/overlay/bytes.js'

const b = (text: string) => Buffer.from(text, 'latin1')
const shown = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString('latin1')

t.test('absolute', async (t) => {
  const here = resolve('.')
  const cases: [string | Buffer, string][] = [
    ['/', '/'],
    ['/a/b', '/a/b'],
    ['//a///b//', '/a/b'],
    ['/./a/./b/.', '/a/b'],
    ['/a/../b', '/a/../b'],
    ['..', `${here}/..`],
    ['a', `${here}/a`],
    ['./a/', `${here}/a`],
    ['.', here],
    ['/...', '/...'],
    ['/a:b,c\\d\n', '/a:b,c\\d\n'],
    [b('/\xff/x'), '/\xff/x'],
    ['/é', b('/\xc3\xa9').toString('latin1')],
    [new Uint8Array([0x2f, 0x61]) as Buffer, '/a'],
  ]
  for (const [path, expected] of cases) t.equal(shown(absolute(path)), expected)
})

t.test('common parent, and names below it', async (t) => {
  const cases: [string[], string | undefined, string[]][] = [
    [[], undefined, []],
    [['/a/b'], '/a', ['b']],
    [['/a'], '/', ['a']],
    [['/'], undefined, []],
    [['/a/1/fs', '/a/2/fs'], '/a', ['1/fs', '2/fs']],
    [['/a/1/fs', '/a/1/fs'], '/a/1', ['fs', 'fs']],
    [['/a/b', '/a/b/c'], '/a', ['b', 'b/c']],
    [['/a/b/c', '/a/b'], '/a', ['b/c', 'b']],
    [['/a', '/b'], '/', ['a', 'b']],
    [['/a', '/'], undefined, []],
    [['/ab/c', '/a/c'], '/', ['ab/c', 'a/c']],
    [['/x/1', '/x/2', '/y'], '/', ['x/1', 'x/2', 'y']],
    [['/a/../b', '/a/c'], undefined, []],
    [['/a/b', '/a/../c'], undefined, []],
    [['/a/..b', '/a/...'], '/a', ['..b', '...']],
  ]
  for (const [paths, parent, names] of cases) {
    const bytes = paths.map(b)
    const found = commonParent(bytes)
    t.equal(shown(found), parent, paths.join(' '))
    if (found)
      t.same(
        bytes.map((path) => shown(relativeTo(found, path))),
        names,
      )
  }
})

const part = fc.constantFrom('a', 'b', 'ab', 'x:y', '\xff', '...')
const path = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => b(`/${parts.join('/')}`))

t.test('the common parent is above all, and no deeper directory is', async () => {
  const property = fc.property(fc.array(path, { minLength: 1, maxLength: 4 }), (paths) => {
    const parent = commonParent(paths)!
    const isAbove = (dir: Buffer) =>
      paths.every((path) => isBelow(dir, path) && !isBelow(path, dir) && relativeTo(dir, path).length > 0)
    const deeper = ancestors(Buffer.concat([paths[0]!, b('/x')])).filter((dir) => dir.length > parent.length)
    const together = (path: Buffer) => absolute(Buffer.concat([parent, b('/'), relativeTo(parent, path)]))
    return (
      isAbove(parent) &&
      !deeper.some(isAbove) &&
      paths.every((path) => together(path).equals(path)) &&
      absolute(parent).equals(parent)
    )
  })
  fc.assert(property, { numRuns: 500 })
})

t.test('the last part', async (t) => {
  const cases: [string, [string, string] | undefined][] = [
    ['/a', ['/', 'a']],
    ['/a/b', ['/a', 'b']],
    ['/a/b/', ['/a', 'b']],
    ['/', undefined],
    ['/a/..', undefined],
    ['/../a', ['/..', 'a']],
    ['/\xff/\xfe', ['/\xff', '\xfe']],
  ]
  for (const [whole, expected] of cases) {
    const found = splitLast(b(whole))
    t.same(found && [shown(found.parent), shown(found.name)], expected, whole)
  }
})

t.test('the directories above', async (t) => {
  t.same(ancestors(b('/a/b/c')).map(shown), ['/a', '/a/b'])
  t.same(ancestors(b('/a')), [])
  t.same(ancestors(b('/')), [])
})

t.test('below, by name', async (t) => {
  const cases: [string, string, boolean][] = [
    ['/a', '/a', true],
    ['/a', '/a/b', true],
    ['/a', '/ab', false],
    ['/a/b', '/a', false],
    ['/', '/a', true],
    ['/', '/', true],
    ['/b/a', '/a', false],
  ]
  for (const [outer, inner, isInside] of cases)
    t.equal(isBelow(b(outer), b(inner)), isInside, `${outer} ${inner}`)
})
