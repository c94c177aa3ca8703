/** Options of an overlay inside a user namespace: what is added, what is refused, what is said. */
import t from 'tap'
import { explain, type OverlayOptions } from '../../lib/index.js'
import { checkHere, parseOptions } from '../../lib/overlay/options.js'
import { adaptOptions } from '../../lib/overlay/userxattr.js'
import { kernels, lacking } from './kernels.js'

const machine = kernels['6.18']
const inside = lacking(machine, { initialUserNamespace: 'user:[1] is not the initial one' })
const keys = (options: OverlayOptions, features = inside) => {
  const parsed = parseOptions(options, 'options.options')
  checkHere(parsed, features, 'options.options')
  return adaptOptions(parsed, features).options.list.map(({ key }) => key)
}

t.test('what is added', async (t) => {
  const table: [OverlayOptions, string[], RegExp | undefined][] = [
    [{}, ['userxattr'], /options\.userxattr was added/],
    [{ volatile: true }, ['volatile', 'userxattr'], /was added/],
    [{ userxattr: true }, ['userxattr'], undefined],
    [{ userxattr: false }, [], /removing a directory of a layer is EIO/],
    [{ redirect_dir: 'nofollow', metacopy: 'off', index: 'off', nfs_export: 'off' },
      ['redirect_dir', 'metacopy', 'index', 'nfs_export', 'userxattr'], /was added/],
  ] // biome-ignore format: a table
  for (const [options, expected, note] of table) {
    const name = JSON.stringify(options)
    t.same(keys(options), expected, name)
    const { notes } = adaptOptions(parseOptions(options, 'options.options'), inside)
    if (note) t.match(notes, [note], name)
    else t.same(notes, [], name)
  }
})

t.test('what is refused there, and only there', async (t) => {
  const table: [OverlayOptions, RegExp][] = [
    [{ redirect_dir: 'on' }, /options\.redirect_dir".*trusted\.overlay.*only 'nofollow' does not.*'on'/],
    [{ redirect_dir: 'follow' }, /options\.redirect_dir"/],
    [{ redirect_dir: 'off' }, /options\.redirect_dir"/],
    [{ metacopy: 'on' }, /options\.metacopy" argument cannot be had inside a user namespace/],
    [{ index: 'on' }, /options\.index".*turns it off unasked/],
    [{ nfs_export: 'on' }, /options\.nfs_export"/],
    [{ userxattr: false, redirect_dir: 'on' }, /options\.redirect_dir"/],
  ]
  for (const [options, message] of table) {
    const name = JSON.stringify(options)
    t.throws(() => keys(options), { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message }, name)
    const given = parseOptions(options, 'options.options')
    checkHere(given, machine, 'options.options')
    t.equal(adaptOptions(given, machine).options, given, `${name} as root of the machine`)
  }
})

t.test('it is in the plan of every rung, after the other options', async (t) => {
  const spec = { lowerdir: ['/layers/a', '/layers/b'], target: '/mnt', options: { volatile: true } }
  const ids = [{ inside: 0, outside: 0, length: 1 }]
  const table = [
    ['direct', {}, /"volatile", NULL, 0\)\n.*FSCONFIG_SET_FLAG, "userxattr", NULL, 0\)\n[\s\S]*CMD_CREATE/],
    ['detached-tree', { idmap: { uid: ids, gid: ids } }, /"userxattr", NULL, 0\)\n[\s\S]*CMD_CREATE/],
    ['classic', {}, /,volatile,userxattr"/],
  ] as const
  for (const [rung, more, line] of table) {
    const explained = explain({ ...spec, ...more }, { rung, features: inside })
    t.match(String(explained), line, rung)
    t.match(explained.notes.join('\n'), /userxattr was added/, `${rung}: said`)
    t.notMatch(String(explain({ ...spec, ...more }, { rung, features: machine })), /userxattr/, rung)
  }
})

t.test('a clone of one layer is no overlay and has no options', async (t) => {
  const explained = explain({ lowerdir: ['/layers/a'] }, { features: inside })
  t.notMatch(String(explained), /userxattr/)
  t.notMatch(explained.notes.join('\n'), /userxattr/)
})
