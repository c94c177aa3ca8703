import t from 'tap'
import * as f from '../../lib/flags.js'
import { parseAttributes, parsePropagation } from '../../lib/overlay/attributes.js'

const bits: Record<string, [mountAttr: number, ms: number]> = {
  readonly: [f.MOUNT_ATTR_RDONLY, f.MS_RDONLY],
  nosuid: [f.MOUNT_ATTR_NOSUID, f.MS_NOSUID],
  nodev: [f.MOUNT_ATTR_NODEV, f.MS_NODEV],
  noexec: [f.MOUNT_ATTR_NOEXEC, f.MS_NOEXEC],
  nodiratime: [f.MOUNT_ATTR_NODIRATIME, f.MS_NODIRATIME],
  nosymfollow: [f.MOUNT_ATTR_NOSYMFOLLOW, f.MS_NOSYMFOLLOW],
}
const parse = (attributes: unknown) => parseAttributes(attributes, 'options.attributes')

t.test('each attribute in both families', async (t) => {
  for (const [name, [mountAttr, ms]] of Object.entries(bits)) {
    t.same(parse({ [name]: true }), { mountAttr, ms }, name)
    t.same(parse({ [name]: false }), { mountAttr: 0, ms: 0 })
  }
  t.same(parse({ atime: 'noatime' }), { mountAttr: 0x10, ms: f.MS_NOATIME })
  t.same(parse({ atime: 'strictatime' }), { mountAttr: 0x20, ms: f.MS_STRICTATIME })
  t.same(parse({ atime: 'relatime' }), { mountAttr: 0, ms: f.MS_RELATIME })
})

t.test('together, and none', async (t) => {
  const all = { readonly: true, nosuid: true, nodev: true, noexec: true, nodiratime: true, nosymfollow: true }
  t.same(parse({ ...all, atime: 'noatime' }), { mountAttr: 0x20009f, ms: 0xd0f })
  t.same(parse({ nosuid: true, nodev: undefined, noexec: false }), { mountAttr: 2, ms: 2 })
  for (const nothing of [undefined, {}, { atime: undefined }]) t.same(parse(nothing), { mountAttr: 0, ms: 0 })
})

t.test('wrong attributes', async (t) => {
  const type = 'ERR_INVALID_ARG_TYPE'
  const value = 'ERR_INVALID_ARG_VALUE'
  const cases: [unknown, string, string][] = [
    [null, type, '"options.attributes" argument must be an object'],
    ['nosuid', type, '"options.attributes"'],
    [[], type, 'The "options.attributes" argument must be an object. Received an instance of Array'],
    [{ atime: true }, type, '"options.attributes.atime" argument must be of type string'],
    [{ atime: 'never' }, value, "must be one of 'relatime', 'noatime', 'strictatime'. Received 'never'"],
    [{ atime: 'toString' }, value, '"options.attributes.atime"'],
    [{ noSuid: true }, value, '"options.attributes.noSuid". Did you mean "nosuid"?'],
    [{ noatime: true }, value, '"options.attributes.noatime". Did you mean "atime"?'],
    [{ idmap: true }, value, 'Known options: readonly, nosuid'],
    [{ constructor: true }, value, '"options.attributes.constructor"'],
    ...Object.keys(bits).flatMap((name): [unknown, string, string][] =>
      [null, 1, 'true', {}].map((wrong) => [
        { [name]: wrong },
        type,
        `"options.attributes.${name}" argument must be of type boolean`,
      ]),
    ),
  ]
  for (const [attributes, code, message] of cases) {
    t.throws(() => parse(attributes), { name: 'TypeError', code, message })
  }
})

t.test('propagation', async (t) => {
  const own = (value: unknown) => parsePropagation(value, 'options.propagation')
  const { MS_SHARED, MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE } = f
  const values = { shared: MS_SHARED, private: MS_PRIVATE, slave: MS_SLAVE, unbindable: MS_UNBINDABLE }
  for (const [name, bit] of Object.entries(values)) t.equal(own(name), bit, name)
  t.equal(own(undefined), undefined)
  const message = '"options.propagation" argument must be '
  for (const wrong of [null, 0x40000, true]) {
    t.throws(() => own(wrong), { code: 'ERR_INVALID_ARG_TYPE', message })
  }
  for (const wrong of ['', 'rprivate', 'constructor']) {
    t.throws(() => own(wrong), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: "'shared', 'private', 'slave', 'unbindable'",
    })
  }
})
