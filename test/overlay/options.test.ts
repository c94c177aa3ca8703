import t from 'tap'
import { parseOptions } from '../../lib/overlay/options.js'
import { captured } from '../sys/owned.js'

const onOff = ['on', 'off']
/** Options that take words, and their words. */
const words: Record<string, readonly string[]> = {
  index: onOff,
  redirect_dir: ['on', 'off', 'follow', 'nofollow'],
  metacopy: onOff,
  xino: ['on', 'off', 'auto'],
  nfs_export: onOff,
  uuid: ['on', 'off', 'null', 'auto'],
  verity: ['on', 'off', 'require'],
}
const booleans = ['volatile', 'userxattr', 'override_creds']
const parse = (options: unknown) => parseOptions(options, 'options.options')

t.test('every word of every option', async (t) => {
  for (const [key, values] of Object.entries(words)) {
    for (const value of values) {
      t.same(parse({ [key]: value }), { list: [{ key, value }], resetVolatile: false, volatile: false })
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
    ['lowerdir', 'Known options: volatile, index, '],
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
