import t from 'tap'
import { explain, type OverlayMountOptions } from '../../lib/index.js'
import { type OptionName, optionTable } from '../../lib/overlay/option-table.js'
import { parseOptions } from '../../lib/overlay/options.js'
import { ways } from '../support/rungs.js'
import { captured } from '../sys/owned.js'
import { kernels, lacking } from './kernels.js'

/** Options that take words, and their words. */
const words = Object.fromEntries(
  Object.entries(optionTable).flatMap(([name, { kind }]) => (typeof kind === 'string' ? [] : [[name, kind]])),
) as Record<string, readonly string[]>
const booleans = ['volatile', 'userxattr', 'override_creds', 'default_permissions']
const texts = ['context', 'fscontext', 'defcontext', 'rootcontext'] as const
const parse = (options: unknown) => parseOptions(options, 'options.options', true)

t.test('every word of every option', async (t) => {
  for (const [key, values] of Object.entries(words)) {
    for (const value of values) {
      const volatile = key === 'fsync' && value === 'volatile'
      t.same(parse({ [key]: value }), { list: [{ key, value }], resetVolatile: false, volatile })
    }
  }
})

t.test('flags', async (t) => {
  const cases: [string, unknown, object[]][] = [
    ['volatile', true, [{ key: 'volatile' }]],
    ['volatile', 'reset', [{ key: 'volatile' }]],
    ['volatile', false, []],
    ['userxattr', true, [{ key: 'userxattr' }]],
    ['userxattr', false, []],
    ['override_creds', true, [{ key: 'override_creds' }]],
    ['override_creds', false, [{ key: 'nooverride_creds' }]],
  ]
  for (const [key, value, list] of cases) {
    const volatile = key === 'volatile' && value !== false
    const userxattr = key === 'userxattr' ? value : undefined
    t.same(
      parse({ [key]: value }),
      { list, resetVolatile: value === 'reset', volatile, userxattr },
      `${key}: ${value}`,
    )
  }
})

t.test('several, in the order given, and none', async (t) => {
  const options = { xino: 'off', volatile: true, metacopy: undefined, index: 'on' }
  t.same(parse(options).list, [
    { key: 'xino', value: 'off' },
    { key: 'volatile' },
    { key: 'index', value: 'on' },
  ])
  for (const nothing of [undefined, {}, { index: undefined }]) {
    t.same(parse(nothing), { list: [], resetVolatile: false, volatile: false })
  }
})

t.test('what is inherited counts as what is there', async (t) => {
  const inherited = parse(Object.create({ volatile: 'reset', index: 'on', userxattr: true }))
  t.same(inherited, parse({ volatile: 'reset', index: 'on', userxattr: true }))
  t.throws(() => parse(Object.create({ indx: 'on' })), { message: 'no option "options.options.indx"' })
  let reads = 0
  const counted = {
    get volatile() {
      return ++reads === 1
    },
  }
  t.same(parse(counted), parse({ volatile: true }), 'each is read once')
})

t.test('wrong types name the option and its words', async (t) => {
  for (const wrong of [null, 7, 'index=on', true, () => {}, []]) {
    const message = 'The "options.options" argument must be an object'
    t.throws(() => parse(wrong), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message })
  }
  for (const [key, values] of Object.entries(words)) {
    for (const wrong of [null, true, 1, [values[0]], {}]) {
      const message = `"options.options.${key}" argument must be one of '${values.join("', '")}'`
      t.throws(() => parse({ [key]: wrong }), { code: 'ERR_INVALID_ARG_TYPE', message })
    }
    for (const wrong of ['', 'ON', 'yes', 'on,lowerdir=/']) {
      const message = `"options.options.${key}" argument must be one of '${values.join("', '")}'. Received '${wrong}'`
      t.throws(() => parse({ [key]: wrong }), { code: 'ERR_INVALID_ARG_VALUE', message })
    }
  }
  for (const key of booleans) {
    const expected = key === 'volatile' ? "boolean or 'reset'" : 'boolean'
    for (const wrong of [null, 1, 'on', '', {}]) {
      const message = `"options.options.${key}" argument must be of type ${expected}`
      t.throws(() => parse({ [key]: wrong }), { code: 'ERR_INVALID_ARG_TYPE', message })
    }
  }
})

t.test('options that do not exist', async (t) => {
  const cases: [string, string][] = [
    ['indx', 'Did you mean "index"?'],
    ['redirectDir', 'Did you mean "redirect_dir"?'],
    ['nouserxattr', 'Did you mean "userxattr"?'],
    ['lowerdir', 'Known options: volatile, fsync, index, '],
    ['toString', 'Known options'],
    ['__proto__x', 'Known options'],
  ]
  for (const [key, advice] of cases) {
    const error = captured(() => parse({ [key]: 'on' }))
    t.match(error, { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: advice })
    t.match(error, { message: `no option "options.options.${key}"` })
  }
  t.same(parse({ unknown: undefined }).list, [], 'undefined is as good as left out')
})

t.test('texts', async (t) => {
  for (const key of texts) {
    const value = 'system_u:object_r:container_file_t:s0:c1,c2'
    t.same(parse({ [key]: value }).list, [{ key, value, isText: true }])
    for (const wrong of [null, true, 7, ['a']]) {
      t.throws(() => parse({ [key]: wrong }), {
        code: 'ERR_INVALID_ARG_TYPE',
        message: `"options.options.${key}"`,
      })
    }
    for (const wrong of ['', 'a"b', 'a\\b', 'a\nb', 'a\0b', 'ä:b']) {
      t.throws(() => parse({ [key]: wrong }), {
        code: 'ERR_INVALID_ARG_VALUE',
        message: 'must be printable ASCII',
      })
    }
    t.same(parse({ [key]: 'a'.repeat(255) }).list.length, 1)
    t.throws(() => parse({ [key]: 'a'.repeat(256) }), { code: 'ERR_OUT_OF_RANGE' })
  }
})

t.test('conflicts name both, before anything else', async (t) => {
  const cases: [object, string, boolean?][] = [
    [
      { metacopy: 'on', redirect_dir: 'off' },
      `.metacopy" argument excludes redirect_dir: 'off'. Received 'on'`,
    ],
    [{ metacopy: 'on', redirect_dir: 'follow' }, `.metacopy" argument excludes redirect_dir: 'follow'`],
    [{ nfs_export: 'on', metacopy: 'on' }, `.metacopy" argument excludes nfs_export: 'on'`],
    [
      { userxattr: true, redirect_dir: 'on' },
      `.userxattr" argument excludes redirect_dir: 'on'. Received true`,
    ],
    [{ volatile: 'reset', fsync: 'strict' }, `.volatile" argument excludes fsync: 'strict'`],
    [{ context: 'a:b', defcontext: 'c:d' }, `.context" argument excludes defcontext. Received 'a:b'`],
    [{ nfs_export: 'on' }, `.nfs_export" argument needs redirect_dir: 'nofollow' without an upperdir`, false],
  ]
  for (const [options, message, hasUpper = true] of cases) {
    const error = captured(() => parseOptions(options, 'options.options', hasUpper))
    t.match(error, { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message })
  }
  t.ok(
    parseOptions({ metacopy: 'on', redirect_dir: 'follow' }, 'o', false),
    'nothing is redirected without an upper',
  )
  t.ok(parse({ volatile: true, fsync: 'volatile' }).volatile, 'twice the same')
  t.ok(parse({ volatile: false, fsync: 'strict' }))
})

const upper = { upperdir: '/c/upper', workdir: '/c/work', target: '/c/rootfs' }
const on = (
  kernel: keyof typeof kernels,
  options: OverlayMountOptions['options'],
  rest: Partial<OverlayMountOptions> = upper,
) => explain({ lowerdir: ['/l/1', '/l/2'], ...rest, options }, { features: kernels[kernel] })

t.test('what a kernel does not know is refused by the plan', async (t) => {
  const code = 'ERR_OVERLAYFD_UNSUPPORTED'
  const message =
    "this kernel's overlay does not know options.options.fsync: 'auto' (the option is of Linux 7.0)"
  t.throws(() => on('6.13', { fsync: 'auto' }), { name: 'Error', code, message })
  t.throws(() => on('6.13', { override_creds: false }), {
    code,
    message: 'nooverride_creds (the option is of Linux 6.15)',
  })
  t.ok(on('6.13', { index: 'on' }))
  const noSelinux = { ...kernels['6.18'], overlayOptions: ['volatile'] }
  for (const key of texts) {
    const request = { lowerdir: ['/l/1', '/l/2'], options: { [key]: 'a:b:c' } }
    t.throws(() => explain(request, { features: noSelinux }), {
      code,
      message: `options.options.${key} needs SELinux, which is not enabled on this kernel`,
    })
  }
})

t.test('what a kernel cannot be asked about, and what changes nothing, is a note', async (t) => {
  const why = 'the fs context of overlay takes any option until it is created'
  const note = `whether this kernel's overlay knows the options cannot be told before the mount, which fails if not: ${why}`
  t.match(on('6.1', { index: 'on' }).notes, [/rung direct was passed over/, note])
  t.notMatch(on('6.1', {}).notes, [note])
  t.notOk(on('6.18', { index: 'on' }).notes.length)
  const idle = { volatile: true, fsync: 'volatile', index: 'on', uuid: 'on', xino: 'on' } as const
  t.same(on('6.18', idle, { target: '/t' }).notes, [
    'options.volatile does nothing without an upperdir',
    "options.fsync: 'volatile' does nothing without an upperdir",
    "options.index: 'on' does nothing without an upperdir",
    "options.uuid: 'on' does nothing without an upperdir",
  ])
  t.same(on('6.18', idle).notes, [])
  t.ok(lacking(kernels['6.18'], { overlayOptions: 'x' }).overlayOptions === false)
})

t.test('contexts: as they are by fsconfig, quoted by mount(2)', async (t) => {
  const options = { index: 'on', context: 'u:r:t:s0:c1,c2', volatile: true, rootcontext: 'u:r:t' } as const
  const printed = String(on('6.18', options))
  t.match(printed, 'fsconfig(fs, FSCONFIG_SET_STRING, "context", "u:r:t:s0:c1,c2", 0)')
  t.match(printed, 'fsconfig(fs, FSCONFIG_SET_STRING, "rootcontext", "u:r:t", 0)')
  const classic = String(on('4.19', options))
  t.match(classic, /,index=on,context=\\"u:r:t:s0:c1,c2\\",volatile,rootcontext=\\"u:r:t\\""\)/)
})

t.test('each context on each rung, with a comma and a space', async (t) => {
  for (const key of texts) {
    for (const { rung, idmap } of ways) {
      const spec = { lowerdir: ['/l/1', '/l/2'], ...upper, idmap, options: { [key]: 'u:r:t:s0:c1,c2 d' } }
      const printed = String(explain(spec, { rung, features: kernels['6.18'] }))
      const classic = `${key}=\\"u:r:t:s0:c1,c2 d\\"`
      const raw = `fsconfig(fs, FSCONFIG_SET_STRING, "${key}", "u:r:t:s0:c1,c2 d", 0)`
      t.ok(printed.includes(rung.includes('classic') ? classic : raw), `${key}, ${rung}`)
    }
  }
})

t.test("override_creds excludes upper: 'idmapped'", async (t) => {
  const ids = [{ inside: 0, outside: 100_000, length: 65_536 }]
  const rest = { ...upper, idmap: { uid: ids, gid: ids }, upper: 'idmapped' } as const
  for (const override_creds of [true, false] as const) {
    const plan = () => on('6.18', { override_creds }, rest)
    if (override_creds)
      t.throws(plan, { code: 'ERR_INVALID_ARG_VALUE', message: `excludes upper: 'idmapped'` })
    else t.match(String(plan()), '"nooverride_creds"')
  }
})

t.test('every option is in the table once', async (t) => {
  const all = [...Object.keys(words), ...booleans, ...texts]
  t.same(all.sort(), (Object.keys(optionTable) as OptionName[]).sort())
})
