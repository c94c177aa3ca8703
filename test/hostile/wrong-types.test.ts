/**
 * Every function and method that the package exports, with values that are wrong in every place: each is refused by
 * name before anything is done. The exports are those of the modules as they are: one without a row here fails.
 */
import t from 'tap'
import * as main from '../../lib/index.js'
import { LayerStack, Mount, Mounter, MountGroup } from '../../lib/index.js'
import * as rootless from '../../lib/rootless.js'
import * as sys from '../../lib/sys.js'
import { watch } from '../support/left.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'
import {
  goodValue,
  isPlain,
  type Outcome,
  outcomeOf,
  type Part,
  partsOf,
  type Row,
  withGetter,
  withValue,
} from './arguments.js'
import { Boom, type Class, isDocumented, isRefusal, type WrongValue, wrongValues } from './wrong-values.js'

const fd = 1_073_741_823
/** where nobody can make anything */
const path = '/proc/nonexistent/path'
const word = 'string bytes'

type Rows = Readonly<Record<string, Row>>
type Fields = Partial<Omit<Row, 'names' | 'run'>>

const row = (
  run: (...args: never[]) => unknown,
  names: string,
  good: Row['good'],
  fields: Fields = {},
): Row => ({
  run,
  names: names.split(' '),
  good,
  ...fields,
})

const flags = 'array'
const sysRows: Rows = {
  close: row(sys.close, 'fd', () => [fd]),
  flag: row(sys.flag, 'bits', () => [1]),
  fsconfigCreate: row(sys.fsconfigCreate, 'fsFd', () => [fd]),
  fsconfigCreateExclusive: row(sys.fsconfigCreateExclusive, 'fsFd', () => [fd]),
  fsconfigReconfigure: row(sys.fsconfigReconfigure, 'fsFd', () => [fd]),
  fsconfigSetBinary: row(sys.fsconfigSetBinary, 'fsFd key value', () => [fd, 'key', Buffer.from([1])], {
    takes: { key: word, value: 'bytes!' },
  }),
  fsconfigSetFd: row(sys.fsconfigSetFd, 'fsFd key fd', () => [fd, 'key', fd], { takes: { key: word } }),
  fsconfigSetFlag: row(sys.fsconfigSetFlag, 'fsFd key', () => [fd, 'key'], { takes: { key: word } }),
  fsconfigSetPath: row(sys.fsconfigSetPath, 'fsFd key path dirFd', () => [fd, 'key', path, fd], {
    takes: { key: word, path: word },
  }),
  fsconfigSetPathEmpty: row(sys.fsconfigSetPathEmpty, 'fsFd key path dirFd', () => [fd, 'key', path, fd], {
    takes: { key: word, path: word },
  }),
  fsconfigSetString: row(sys.fsconfigSetString, 'fsFd key value', () => [fd, 'key', 'value'], {
    takes: { key: word, value: word },
  }),
  fsmount: row(sys.fsmount, 'fsFd flags attributes options', () => [fd, 0, 0, { cloexec: true }], {
    takes: { flags, attributes: flags },
  }),
  fsopen: row(sys.fsopen, 'type flags options', () => ['nonsense', 0, { cloexec: true }], {
    takes: { type: word, flags },
  }),
  fspick: row(sys.fspick, 'dirFd path flags options', () => [fd, path, 0, { cloexec: true }], {
    takes: { path: word, flags },
  }),
  fstatfs: row(sys.fstatfs, 'fd', () => [fd]),
  lgetxattr: row(sys.lgetxattr, 'path name', () => [path, 'user.x'], { takes: { path: word, name: word } }),
  llistxattr: row(sys.llistxattr, 'path', () => [path], { takes: { path: word } }),
  mount: row(sys.mount, 'source target type flags data', () => [path, path, 'nonsense', 0, 'data'], {
    takes: { source: `${word} null`, target: word, type: `${word} null`, flags, data: `${word} null` },
  }),
  mountSetattr: row(
    sys.mountSetattr,
    'dirFd path flags attr',
    () => [fd, path, 0, { attrSet: 1, attrClr: 0, propagation: 0, usernsFd: fd }],
    { takes: { path: word, flags, 'attr.attrSet': flags, 'attr.attrClr': flags, 'attr.propagation': flags } },
  ),
  moveMount: row(sys.moveMount, 'fromFd fromPath toFd toPath flags', () => [fd, path, fd, path, 0], {
    takes: { fromPath: word, toPath: word, flags },
  }),
  openTree: row(sys.openTree, 'dirFd path flags options', () => [fd, path, 0, { cloexec: true }], {
    takes: { path: word, flags },
  }),
  openTreeAttr: row(
    sys.openTreeAttr,
    'dirFd path flags attr options',
    () => [fd, path, 0, { attrSet: 1, attrClr: 0, propagation: 0, usernsFd: fd }, { cloexec: true }],
    { takes: { path: word, flags, 'attr.attrSet': flags, 'attr.attrClr': flags, 'attr.propagation': flags } },
  ),
  openat2: row(
    sys.openat2,
    'dirFd path how options',
    () => [fd, path, { flags: 0, mode: 0, resolve: 0 }, { cloexec: true }],
    { takes: { path: word, 'how.flags': flags, 'how.resolve': flags } },
  ),
  readLog: row(sys.readLog, 'fsFd', () => [fd]),
  setns: row(sys.setns, 'fd type', () => [fd, 0], { takes: { type: flags } }),
  statfs: row(sys.statfs, 'path', () => [path], { takes: { path: word } }),
  statx: row(sys.statx, 'dirFd path flags mask', () => [fd, path, 0, 0], {
    takes: { path: word, flags, mask: flags },
  }),
  umount: row(sys.umount, 'target flags', () => [path, 0], { takes: { target: word, flags } }),
  unshare: row(sys.unshare, 'flags', () => [0], { takes: { flags } }),
}

const rootlessRows: Rows = {
  spawnInUserNamespace: row(
    rootless.spawnInUserNamespace,
    'command args options',
    () => ['nonsense', ['word'], { stdio: 'ignore', signal: AbortSignal.abort() }],
    { isAsync: true, takes: { 'options.stdio': 'array string string!' } },
  ),
}

const extent = { inside: 0, outside: 100_000, length: 65_536 }
const ids = { uid: [extent], gid: [extent] }
const attributes = {
  readonly: false,
  nosuid: true,
  nodev: true,
  noexec: false,
  nodiratime: true,
  nosymfollow: false,
  atime: 'noatime',
}
const image = {
  image: path,
  devices: [path],
  options: { acl: true, user_xattr: true, cache_strategy: 'disabled', directio: true, fsoffset: 0 },
}
const stackOptions = { lowerdir: [path, image], datadir: [path], idmap: ids }
const mountOptions = {
  upperdir: path,
  workdir: '/proc/nonexistent/work',
  target: path,
  upper: 'asis',
  create: true,
  checkUpper: true,
  options: {
    volatile: true,
    index: 'on',
    redirect_dir: 'on',
    metacopy: 'on',
    xino: 'off',
    nfs_export: 'off',
    uuid: 'on',
    verity: 'off',
  },
  attributes,
  propagation: 'private',
}
const layerTakes = 'string bytes object number'
const takesOf = (prefix: string): Record<string, string> =>
  Object.fromEntries(
    Object.entries({
      'lowerdir[0]': layerTakes,
      'lowerdir[1]': layerTakes,
      'lowerdir[1].image': 'string bytes number',
      'lowerdir[1].devices[0]': 'string bytes number',
      'datadir[0]': layerTakes,
      upperdir: word,
      workdir: word,
      target: `${word} object`,
      source: 'string bytes number object',
      'source.path': word,
      'target.path': word,
      'target.mountNamespace': 'string bytes number object',
      'options.volatile': 'boolean string',
      ...Object.fromEntries(
        ['size', 'nr_inodes', 'options.size', 'options.nr_inodes'].map((each) => [each, 'number string']),
      ),
    }).map(([key, takes]) => [`${prefix}.${key}`, takes]),
  )
const requiredOf = (prefix: string): string[] =>
  [
    ...[
      'lowerdir',
      'lowerdir[1].image',
      'source',
      'source.mount',
      'target.mountNamespace',
      'target.path',
      'target.mount',
    ],
    ...['uid', 'gid'].flatMap((side) =>
      ['', '[0].inside', '[0].outside', '[0].length'].map((each) => `idmap.${side}${each}`),
    ),
  ].map((name) => `${prefix}.${name}`)
const of = (prefix = 'options'): Fields => ({ takes: takesOf(prefix), required: requiredOf(prefix) })

/** Of what is explained: the features of another kernel. */
const ofHow = (): Fields => ({
  takes: {
    ...takesOf('options'),
    'how.features.overlayOptions': 'boolean array',
    'how.features.overlayOptions[0]': 'string string!',
    'how.features.layersByFd': 'string boolean',
    'how.features.reasons.overlay': 'string string!',
  },
  required: [...requiredOf('options'), ...Object.keys(main.features()).map((name) => `how.features.${name}`)],
})

/** What is internal: a caller finds it, and no type declares it. */
const internal = new Set([
  ...['openFlow', 'takeFlow'].flatMap((name) => [
    `LayerStack.${name}`,
    `Mount.${name}`,
    `MountGroup.${name}`,
    `Rootfs.${name}`,
  ]),
  ...['reach', 'gone', 'mustBeIdle', 'hold'].map((name) => `Mount#${name}`),
  ...['join', 'leave'].map((name) => `MountGroup#${name}`),
])
/** Made by the library alone. */
const made = new Set([
  'HandoverError',
  'MountError',
  'RungError',
  'SyscallError',
  'LayerStack',
  'Mount',
  'MountGroup',
  'Rootfs',
])
/** They have no arguments. */
const bare = new Set([
  ...[
    'features',
    'subordinateIds',
    'LayerStack#close',
    'LayerStack#closeSync',
    'Mount#release',
    'Mount#toJSON',
  ],
  ...['Mounter#idle', 'Mounter#trim', 'Mounter#close', 'MountGroup#release'],
  ...['LayerStack', 'Mount', 'MountGroup', 'Mounter'].flatMap((name) => [
    `${name}#[dispose]`,
    `${name}#[asyncDispose]`,
  ]),
])

const isClass = (value: unknown): value is { prototype: object } =>
  typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value))

/** Functions, constructors and methods, as a caller finds them. */
const exportsOf = (module: object): string[] =>
  Object.entries(module).flatMap(([name, value]) => {
    if (typeof value !== 'function') return []
    if (!isClass(value)) return [name]
    const methods = (of: object, mark: string) =>
      Reflect.ownKeys(of)
        .filter((key) => typeof Reflect.getOwnPropertyDescriptor(of, key)?.value === 'function')
        .filter((key) => key !== 'constructor')
        .map(
          (key) =>
            `${name}${mark}${typeof key === 'symbol' ? `[${key.description?.replace('nodejs.', '').replace('Symbol.', '')}]` : key}`,
        )
    return [name, ...methods(value, '.'), ...methods(value.prototype, '#')]
  })

const without = (module: object, rows: Rows): string[] =>
  exportsOf(module).filter(
    (name) => ![internal, made, bare].some((set) => set.has(name)) && rows[name] === undefined,
  )

/** What is wrong with how a value was met; undefined if nothing. */
const judge = (
  part: Part,
  wrong: WrongValue,
  { error, hasFailed, isThrown }: Outcome,
  isAsync: boolean,
): string | undefined => {
  const shown = hasFailed ? `${error instanceof Boom ? 'Boom' : (error as Error)?.stack}` : 'taken'
  if (isAsync && isThrown) return `thrown, not rejected: ${shown}`
  if (hasFailed && isRefusal(error, part.name)) return undefined
  if (wrong.class === 'trap' && hasFailed) {
    // what is to be read may throw; what may not be an object or a list is not read
    const isRead = ['object', 'array', 'function'].some((each) => part.takes.has(each as Class))
    return isRead && (error instanceof Boom || error instanceof TypeError || isDocumented(error))
      ? undefined
      : shown
  }
  const isTaken = part.takes.has(wrong.class === 'trap' ? 'object' : wrong.class)
  if (!isTaken) return shown
  return !hasFailed || isDocumented(error) ? undefined : shown
}

const undo = (value: unknown): void => {
  if (Array.isArray(value)) for (const each of value) undo(each)
  else if (value instanceof Mount || value instanceof MountGroup) value.unmountSync()
  else if (value instanceof LayerStack) value.closeSync()
}

/** All that is met wrongly by a row, a line each. */
const faultsOf = async (row: Row): Promise<string[]> => {
  const faults: string[] = []
  const isAsync = row.isAsync === true
  for (const part of partsOf(row)) {
    for (const wrong of wrongValues) {
      const outcome = await outcomeOf(row, withValue(row, part, wrong.value))
      undo(outcome.value)
      const fault = judge(part, wrong, outcome, isAsync)
      if (fault !== undefined) faults.push(`${part.name} = ${wrong.name}: ${fault}`)
    }
    if (part.path.length === 1) continue
    const thrown = await outcomeOf(
      row,
      withGetter(row, part, () => {
        throw new Boom()
      }),
    )
    undo(thrown.value)
    if (thrown.hasFailed && !(thrown.error instanceof Boom) && !isDocumented(thrown.error)) {
      faults.push(`${part.name}, whose getter throws: ${(thrown.error as Error).stack}`)
    }
    for (const wrong of [undefined, Symbol('wrong'), -1, {}]) {
      let reads = 0
      const good = goodValue(row, part)
      const turned = await outcomeOf(
        row,
        withGetter(row, part, () => (reads++ === 0 ? good : wrong)),
      )
      undo(turned.value)
      if (turned.hasFailed && !isDocumented(turned.error)) {
        faults.push(`${part.name}, another when it is read again: ${(turned.error as Error).stack}`)
      }
    }
  }
  return faults
}

t.test('every export has a row', async (t) => {
  t.same(without(sys, sysRows), [])
  t.same(without(rootless, rootlessRows), [])
})

/** Made of others, which have all that it has. */
const heir = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(heir)
  if (!isPlain(value)) return value
  return Object.create(Object.fromEntries(Object.entries(value).map(([key, each]) => [key, heir(each)])))
}

t.test('what is inherited counts', async (t) => {
  const volatile = { ...stackOptions, ...mountOptions, target: { path: '/a/b', mountNamespace: { pid: 1 } } }
  const how = heir({ rung: 'auto', features: main.features() }) as main.ExplainOptions
  const rows: Rows = {
    explain: row(main.explain, 'options', () => [volatile]),
    explainBind: row(main.explainBind, 'options', () => [{ source: path, idmap: ids, attributes }]),
    explainTmpfs: row(main.explainTmpfs, 'options', () => [{ options: { size: '1m' }, attributes }]),
  }
  for (const [name, each] of Object.entries(rows)) {
    const explained = (...args: readonly unknown[]) => String(each.run(...(args as never[])))
    const good = each.good()
    t.equal(explained(...good.map(heir), how), explained(...good), name)
    for (const part of partsOf(each)) {
      const value = goodValue(each, part)
      if (!isPlain(value)) continue
      const more = Object.create({ ...value, nonsense: 1 })
      const { error } = await outcomeOf(each, withValue(each, part, more))
      t.ok(isRefusal(error, part.name), `${part.name}: ${error}`)
    }
  }
})

t.test('nothing wrong is taken', privileged, async (t) => {
  const area = scratch(t)
  const cwd = process.cwd()
  process.chdir(area.mkdir('cwd'))
  t.teardown(() => process.chdir(cwd))
  const mounter = new Mounter()
  const before = watch()
  const stack = mounter.openSync({ lowerdir: area.layers(2) })
  const detached = mounter.mountTmpfsSync()
  const attached = mounter.mountTmpfsSync({ target: area.mkdir('attached') })
  const bound = mounter.mountBindSync({ source: area.mkdir('source'), target: area.mkdir('bound') })
  const group = mounter.openGroupSync(area.mkdir('group'))
  const written = stack.mountSync({ target: area.mkdir('written') })
  const json: object = {
    ...JSON.parse(JSON.stringify(written)),
    source: 'x',
    uppers: [
      ['1', '2'],
      ['3', '4'],
    ],
  }
  written.unmountSync()
  const writtenTmpfs = mounter.mountTmpfsSync({ target: area.mkdir('written') })
  const tmpfsJson: object = JSON.parse(JSON.stringify(writtenTmpfs))
  writtenTmpfs.unmountSync()

  const { signal } = new AbortController()
  const spot = { mount: detached, path: 'nonexistent/place' }
  const overlay = { ...stackOptions, ...mountOptions }
  const bind = {
    source: path,
    target: path,
    create: true,
    beneath: true,
    recursive: true,
    idmap: ids,
    attributes: { ...attributes, recursive: true },
    propagation: 'slave',
  }
  const size = { size: '1m', nr_inodes: 100, huge: 'never', mpol: 'default' }
  const tmpfs = {
    target: path,
    create: false,
    beneath: false,
    options: { ...size, mode: 0o755, uid: 0, gid: 0, inode64: true, noswap: true },
    attributes,
    propagation: 'private',
  }
  const kernel = { ...main.features(), overlayOptions: ['index=on'], reasons: { overlay: 'a text' } }
  const how = { features: kernel, rung: 'auto' }

  /** A function or method in its two forms, of which the promise takes a signal. */
  const both = (
    of: object,
    key: string,
    names: string,
    good: readonly unknown[],
    fields: Fields = {},
  ): Rows => {
    const name = key.replace(/^.*[.#]/, '')
    const method = (form: string) => {
      const found = Reflect.get(of, `${name}${form}`) as (...args: never[]) => unknown
      return found.bind(of)
    }
    return {
      [key]: row(method(''), names, () => good, { ...fields, isAsync: true }),
      [`${key}Sync`]: row(method('Sync'), names, () => good, fields),
    }
  }
  /** The same with the argument that is called `call`. */
  const calling = (
    of: object,
    key: string,
    names: string,
    good: readonly unknown[],
    fields: Fields = {},
  ): Rows => {
    const isMethod = key.includes('#')
    const [async, sync] = Object.entries(both(of, key, `${names} call`, good, fields)) as [
      [string, Row],
      [string, Row],
    ]
    const whose = isMethod ? {} : { mounter }
    return {
      [async[0]]: { ...async[1], good: () => [...good, { ...whose, signal }] },
      [sync[0]]: isMethod ? sync[1] : { ...sync[1], good: () => [...good, whose] },
    }
  }
  const dirTakes = { dir: word, 'options.unmount': 'boolean function' }
  // an object is looked at, to say that a group is in the own namespace
  const target = { takes: { target: `${word} object` } }
  const json_ = {
    takes: { json: 'string object', 'json.boot': 'string null', 'json.source': 'string string!' },
    required: ['json.kind', 'json.phase'],
  }
  const rows: Rows = {
    explain: row(main.explain, 'options how', () => [overlay, how], ofHow()),
    explainBind: row(main.explainBind, 'options how', () => [bind, how], ofHow()),
    explainTmpfs: row(main.explainTmpfs, 'options how', () => [tmpfs, how], ofHow()),
    features: row(main.features, 'options', () => [{ refresh: false }], { takes: { options: 'undefined' } }),
    topology: row(main.topology, 'options', () => [{ root: '/nonexistent' }]),
    ...calling(main, 'mountOverlay', 'options', [overlay], of()),
    ...calling(main, 'mountBind', 'options', [bind], of()),
    ...calling(main, 'mountTmpfs', 'options', [tmpfs], of()),
    ...calling(main, 'reconcile', 'dir options', [path, { unmount: false, lazy: true }], { takes: dirTakes }),
    ...calling(LayerStack, 'LayerStack.open', 'options', [stackOptions], of()),
    ...calling(MountGroup, 'MountGroup.open', 'target', [path], target),
    ...calling(Mount, 'Mount.open', 'json', [tmpfsJson], json_),
    ...calling(mounter, 'Mounter#openMount', 'json', [tmpfsJson], json_),
    ...calling(main.Rootfs, 'Rootfs.open', 'json', [json], json_),
    ...calling(main.Rootfs, 'Rootfs.fromFd', 'fd', [fd]),
    Mounter: row(
      (options) => new Mounter(options),
      'options',
      () => [{ rung: 'auto', threads: 1, reapers: 1, maxQueued: 10, cpus: [0], maxLayerFds: 10 }],
      { takes: { options: 'undefined' } },
    ),
    'Mounter#ready': row(mounter.ready.bind(mounter), 'call', () => [{ signal }], { isAsync: true }),
    ...calling(mounter, 'Mounter#mount', 'options', [overlay], of()),
    ...calling(mounter, 'Mounter#mountBind', 'options', [bind], of()),
    ...calling(mounter, 'Mounter#mountTmpfs', 'options', [tmpfs], of()),
    ...calling(mounter, 'Mounter#open', 'options', [stackOptions], of()),
    ...calling(mounter, 'Mounter#openGroup', 'target', [path], target),
    ...calling(mounter, 'Mounter#openRootfs', 'json', [json], json_),
    ...calling(mounter, 'Mounter#takeRootfs', 'fd', [fd]),
    ...calling(mounter, 'Mounter#reconcile', 'dir options', [path, { unmount: false, lazy: true }], {
      takes: dirTakes,
    }),
    ...calling(stack, 'LayerStack#mount', 'options', [mountOptions], of()),
    ...calling(stack, 'LayerStack#mountMany', 'options', [[mountOptions]], of('options[0]')),
    'LayerStack#explain': row(stack.explain.bind(stack), 'options', () => [mountOptions], of()),
    ...both(detached, 'Mount#attach', 'target options', [path, { propagation: 'private', beneath: true }], {
      takes: { target: `${word} object` },
    }),
    ...both(attached, 'Mount#moveTo', 'target options', [spot, { propagation: 'private', beneath: true }], {
      takes: { target: word, 'target.path': word },
      required: ['target.mount', 'target.path'],
    }),
    ...both(attached, 'Mount#setAttributes', 'attributes options', [attributes, { recursive: true }]),
    'Mount#explain': row(attached.explain.bind(attached), 'operation attributes options', () => [
      'setAttributes',
      attributes,
      { recursive: true },
    ]),
    ...both(attached, 'Mount#setPropagation', 'propagation options', ['private', { recursive: true }]),
    ...both(attached, 'Mount#reconfigure', 'options', [{ ...size, readonly: false }], of()),
    ...both(bound, 'Mount#unmount', 'options', [{ lazy: true, wait: 'namespace' }]),
    'MountGroup#target': row(group.target.bind(group), 'name', () => ['a/b'], { takes: { name: word } }),
  }
  t.same(
    without(main, {
      ...rows,
      'MountGroup#unmount': rows['Mount#unmount']!,
      'MountGroup#unmountSync': rows['Mount#unmount']!,
    }),
    [],
    'every export has a row',
  )
  const all: Rows = {
    ...sysRows,
    ...rootlessRows,
    ...rows,
    // at the end, for it is carried out
    ...both(group, 'MountGroup#unmount', 'options', [{ lazy: true }]),
  }
  for (const [name, each] of Object.entries(all)) t.same(await faultsOf(each), [], name)
  detached.unmountSync()
  attached.unmountSync()
  stack.closeSync()
  await mounter.close()
  await Mounter.default.close()
  t.same(await before({ threads: true }), [], 'nothing is left')
})
