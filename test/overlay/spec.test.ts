import { resolve } from 'node:path'
import t from 'tap'
import * as f from '../../lib/flags.js'
import {
  layerSubject,
  type OverlayMountOptions,
  parseMount,
  parseOverlay,
  parseStack,
  type StackMountOptions,
  type StackOptions,
} from '../../lib/overlay/spec.js'
import { captured } from '../sys/owned.js'

const ids = [{ inside: 0, outside: 100_000, length: 65_536 }]
const idmap = { uid: ids, gid: ids }
const b = (path: string) => Buffer.from(path)
const stack = (options: object = {}) => parseStack({ lowerdir: ['/a', '/b'], ...options } as StackOptions)
const mount = (options: object, of = stack()) => parseMount(options as StackMountOptions, of)
const overlay = (options: object) =>
  parseOverlay({ lowerdir: ['/a', '/b'], ...options } as OverlayMountOptions)
const writable = { upperdir: '/u', workdir: '/w' }

t.test('layers', async (t) => {
  const odd = Buffer.from([0x2f, 0xff])
  const found = stack({
    lowerdir: ['/x//1/', odd, 7, 'rel', new Uint8Array([0x2f, 0x61])],
    datadir: ['/d', 8],
  })
  t.same(found, {
    layers: [
      { path: b('/x/1') },
      { path: odd },
      { fd: 7 },
      { path: b(`${resolve('.')}/rel`) },
      { path: b('/a') },
      { path: b('/d') },
      { fd: 8 },
    ],
    dataLayers: 2,
    idmap: undefined,
  })
  const subjects = found.layers.map((_, i) => layerSubject(found, i))
  t.same(subjects.slice(1, 4), [
    { option: 'lowerdir', index: 1, path: odd },
    { option: 'lowerdir', index: 2, path: 'fd 7' },
    { option: 'lowerdir', index: 3, path: b(`${resolve('.')}/rel`) },
  ])
  t.same(subjects.slice(5), [
    { option: 'datadir', index: 0, path: b('/d') },
    { option: 'datadir', index: 1, path: 'fd 8' },
  ])
})

t.test('as many as the kernel takes', async (t) => {
  const many = (count: number) => Array.from({ length: count }, (_, i) => `/l/${i}`)
  t.equal(stack({ lowerdir: many(500) }).layers.length, 500)
  t.equal(stack({ lowerdir: many(300), datadir: many(200) }).layers.length, 500)
  const message = 'at most 500 layers, data-only ones included. Received 501'
  for (const options of [{ lowerdir: many(501) }, { lowerdir: many(1), datadir: many(500) }]) {
    t.throws(() => stack(options), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message })
  }
})

t.test('a mount, with its defaults', async (t) => {
  const nothing = {
    upperdir: undefined,
    workdir: undefined,
    target: undefined,
    inside: undefined,
    idmap: undefined,
    upper: 'asis',
    create: false,
    checkUpper: false,
    options: { list: [], resetVolatile: false, volatile: false },
    attributes: { mountAttr: 0, ms: 0 },
    propagation: undefined,
  }
  t.same(mount({}), nothing)
  const everything = {
    ...writable,
    target: 't//x/',
    idmap,
    upper: 'shifted',
    create: true,
    checkUpper: true,
    options: { volatile: 'reset', index: 'off' },
    attributes: { nosuid: true },
    propagation: 'slave',
  }
  t.match(mount(everything), {
    upperdir: b('/u'),
    workdir: b('/w'),
    target: b(`${resolve('.')}/t/x`),
    idmap: { uid: ids, uidMap: '0 100000 65536\n' },
    upper: 'shifted',
    create: true,
    checkUpper: true,
    options: {
      resetVolatile: true,
      volatile: true,
      list: [{ key: 'volatile' }, { key: 'index', value: 'off' }],
    },
    attributes: { mountAttr: f.MOUNT_ATTR_NOSUID, ms: f.MS_NOSUID },
    propagation: f.MS_SLAVE,
  })
})

t.test('a target that is an object with a path alone', async (t) => {
  for (const path of ['/a//b', 'relative', b('/caf\xe9')]) {
    t.same(mount({ target: { path } }), mount({ target: path }))
  }
  t.equal(mount({ target: { path: '/a' } }).inside, undefined)
})

t.test('a target in another mount namespace', async (t) => {
  const inside = (mountNamespace: unknown) => mount({ target: { path: '/a//b/./c', mountNamespace } })
  const namespaces: [unknown, string][] = [
    [{ pid: 4711 }, '/proc/4711/ns/mnt'],
    [7, '/proc/self/fd/7'],
    ['/run/ns/1', '/run/ns/1'],
    [b('ns'), `${resolve('.')}/ns`],
  ]
  for (const [given, path] of namespaces) {
    t.match(inside(given), {
      target: b('/a/b/c'),
      inside: { namespace: b(path), above: b('/a/b'), name: b('c') },
    })
  }
  t.match(mount({ target: { path: b('/c'), mountNamespace: 7 } }).inside, { above: b('/'), name: b('c') })
})

t.test('both halves in one', async (t) => {
  const found = overlay({ ...writable, idmap, datadir: ['/d'], target: '/t' })
  t.match(found, { stack: { dataLayers: 1, idmap: { uid: ids } }, mount: { target: b('/t') } })
  t.equal(found.mount.idmap, undefined, 'the mapping is the stack’s, not one more')
})

t.test('a user namespace by name is found from here, not from a thread’s directory', async (t) => {
  const here = resolve('.')
  t.same(stack({ idmap: { userns: 'ns/../user' } }).idmap, { userns: b(`${here}/ns/../user`) })
  t.same(mount({ idmap: { userns: b('/proc/7/ns/user') } }).idmap, { userns: b('/proc/7/ns/user') })
  t.same(mount({ idmap: { userns: 7 } }).idmap, { userns: 7 })
})

t.test('a relative path is one of now', async (t) => {
  const own = process.cwd()
  t.teardown(() => process.chdir(own))
  process.chdir('/proc/self')
  const { layers } = stack({ lowerdir: ['x', './ns/..'] })
  t.same(layers, [{ path: b(`/proc/${process.pid}/x`) }, { path: b(`/proc/${process.pid}/ns/..`) }])
})

const type = 'ERR_INVALID_ARG_TYPE'
const value = 'ERR_INVALID_ARG_VALUE'
const range = 'ERR_OUT_OF_RANGE'

t.test('wrong types of every option', async (t) => {
  const paths = ['upperdir', 'workdir']
  const table: [string, unknown[], string][] = [
    ...paths.map((name): [string, unknown[], string] => [
      name,
      [null, 7, {}, ['/a']],
      'of type string or Buffer',
    ]),
    ['target', [null, 7, ['/a'], true], 'a string, a Buffer or { path, mountNamespace }'],
    ['upper', [null, 1, {}], "one of 'asis', 'shifted', 'idmapped'"],
    ['create', [null, 1, 'true'], 'of type boolean'],
    ['options', [null, 1, 'index=on', []], 'an object'],
    ['attributes', [null, 1, 'ro', []], 'an object'],
    ['propagation', [null, 1, true], 'of type string'],
    ['idmap', [null, 1, '0:0:1'], 'an object { uid, gid } or { userns }'],
    ['lowerdir', [undefined, null, '/a', {}, 7], 'an array of paths, Buffers, fds or images'],
    ['datadir', [null, '/a', {}], 'an array of paths, Buffers, fds or images'],
  ]
  for (const [name, wrong, expected] of table) {
    const parse = ['lowerdir', 'datadir'].includes(name) ? stack : mount
    for (const received of wrong) {
      const error = captured(() => parse({ ...(parse === mount ? writable : {}), [name]: received }))
      t.match(error, {
        name: 'TypeError',
        code: type,
        message: `The "options.${name}" argument must be ${expected}`,
      })
      t.throws(() => overlay({ ...writable, [name]: received }), { code: type, message: `"options.${name}"` })
    }
  }
  for (const wrong of [undefined, null, '/a', 7, ['/a']]) {
    const message = 'The "options" argument must be an object'
    for (const parse of [parseStack, parseOverlay]) {
      t.throws(() => parse(wrong as unknown as OverlayMountOptions), { code: type, message })
    }
    t.throws(() => parseMount(wrong as StackMountOptions, stack()), { code: type, message })
  }
})

t.test('wrong values', async (t) => {
  const one = stack({ lowerdir: ['/a'] })
  const both = 'upperdir and workdir are given both or neither'
  const fds = [-1, 0.5, Number.NaN, 2 ** 31]
  const inside = (path: unknown, mountNamespace: unknown) => mount({ target: { path, mountNamespace } })
  const sparse: unknown[] = []
  sparse[1] = '/a'
  const table: [() => unknown, string, string][] = [
    [() => stack({ lowerdir: [] }), value, '"options.lowerdir" argument must hold at least one layer'],
    [() => stack({ lowerdir: ['/a', null] }), type, '"options.lowerdir[1]" argument must be of type string, Buffer, a number (an fd) or an image ({ image })'],
    [() => stack({ lowerdir: sparse }), type, '"options.lowerdir[0]"'],
    [() => stack({ lowerdir: ['/a', ''] }), value, '"options.lowerdir[1]" argument must not be empty'],
    [() => stack({ lowerdir: ['/a', b('/a\0')] }), value, '"options.lowerdir[1]" argument must not hold a NUL'],
    [() => stack({ lowerdir: ['\ud800'] }), value, '"options.lowerdir[0]" argument must not hold a lone'],
    [() => stack({ datadir: ['/a', []] }), type, '"options.datadir[1]"'],
    ...fds.map((fd): [() => unknown, string, string] => [() => stack({ lowerdir: [fd] }), range, '"options.lowerdir[0]" is out of range. It must be an open fd']),
    [() => mount({ upperdir: '/u' }), value, `"options.workdir" argument is missing: ${both}`],
    [() => mount({ workdir: '/w' }), value, `"options.upperdir" argument is missing: ${both}`],
    [() => mount({ target: '' }), value, '"options.target" argument must not be empty'],
    [() => mount({ target: '/' }), value, `"options.target" argument must be a directory below '/'`],
    [() => mount({ target: '/a/..' }), value, '"options.target"'],
    [() => mount({ target: {} }), type, '"options.target.path" argument must be of type string or Buffer'],
    [() => mount({ target: { path: '/' } }), value, `"options.target.path" argument must be a directory below '/'`],
    [() => inside('/t', undefined), type, '"options.target.mountNamespace" argument must be an fd, a path or { pid }. Received undefined'],
    [() => inside('/t', []), type, '"options.target.mountNamespace"'],
    [() => inside('/t', null), type, '"options.target.mountNamespace"'],
    [() => inside('/t', ''), value, '"options.target.mountNamespace" argument must not be empty'],
    [() => inside('/t', {}), type, '"options.target.mountNamespace.pid" argument must be of type number. Received undefined'],
    [() => inside('/t', { pid: '1' }), type, '"options.target.mountNamespace.pid"'],
    ...[0, -1, 1.5, 2 ** 22 + 1].map((pid): [() => unknown, string, string] => [() => inside('/t', { pid }), range, '"options.target.mountNamespace.pid" is out of range. It must be a whole number from 1']),
    ...fds.map((fd): [() => unknown, string, string] => [() => inside('/t', fd), range, '"options.target.mountNamespace" is out of range. It must be an open fd']),
    ...['t', '/', '/a/..', '/../t', './t'].map((path): [() => unknown, string, string] => [() => inside(path, 3), value, `"options.target.path" argument must be an absolute path below '/', without '..'`]),
    [() => inside('/t\0', 3), value, '"options.target.path" argument must not hold a NUL'],
    [() => mount({ propagation: 'slave' }), value, '"options.propagation" argument needs a target'],
    [() => mount({ propagation: 'rslave', target: '/t' }), value, '"options.propagation"'],
    [() => mount({ ...writable, upper: 'chown' }), value, `"options.upper" argument must be one of 'asis'`],
    [() => mount({ upper: 'shifted', idmap }), value, '"options.upper" argument needs an upperdir'],
    [() => mount({ ...writable, upper: 'idmapped' }), value, '"options.upper" argument needs an idmap'],
    [() => mount({ options: { volatile: true } }, one), value, '"options.options" argument cannot be used: one layer without an upperdir is a clone'],
    [() => mount({}, stack({ lowerdir: ['/a'], datadir: ['/d'] })), value, '"options.upperdir" argument must be given: one lower layer above data-only ones'],
    [() => mount({ idmap: { uid: ids } }), type, '"options.idmap.gid"'],
    [() => stack({ idmap: { userns: 'a\0' } }), value, '"options.idmap.userns"'],
  ] // biome-ignore format: a table
  for (const [parse, code, message] of table) t.throws(parse, { code, message })
  const fine = [
    () => mount({ ...writable, upper: 'idmapped' }, stack({ idmap })),
    () => mount({ ...writable, options: { volatile: true } }, one),
    () => mount({ options: { volatile: false } }, one),
    () => mount(writable, stack({ lowerdir: ['/a'], datadir: ['/d'] })),
    () => mount({}, stack({ datadir: ['/d'] })),
  ]
  for (const parse of fine) t.ok(parse())
})

t.test('options that do not exist, or not here', async (t) => {
  const table: [() => unknown, string][] = [
    [() => stack({ lowerDir: [] }), '"options.lowerDir". Did you mean "lowerdir"?'],
    [() => stack({ upperdir: '/u' }), 'no option "options.upperdir"'],
    [() => mount({ lowerdir: ['/a'] }), 'no option "options.lowerdir"'],
    [
      () => mount({ target: { path: '/t', mountnamespace: 3 } }),
      '"options.target.mountnamespace". Did you mean "mountNamespace"?',
    ],
    [
      () => mount({ target: { path: '/t', mountNamespace: { PID: 3 } } }),
      '"options.target.mountNamespace.PID". Did you mean "pid"?',
    ],
    [() => mount({ workDir: '/w' }), 'no option "options.workDir". Did you mean "workdir"?'],
    [() => overlay({ mountpoint: '/t' }), 'Known options: lowerdir, datadir, idmap, upperdir'],
    [() => overlay({ volatile: true }), 'no option "options.volatile"'],
    [() => overlay({ rung: 'direct' }), 'no option "options.rung"'],
  ]
  for (const [parse, message] of table) {
    t.throws(parse, { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message })
  }
})
