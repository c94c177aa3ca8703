import t from 'tap'
import type { Features } from '../../lib/host/features.js'
import {
  choose,
  type Need,
  parseRung,
  type RungChoice,
  RungError,
  type RungName,
  rungs,
} from '../../lib/overlay/choose.js'
import { captured } from '../sys/owned.js'
import { absent, kernels, lacking, noPathFds } from './kernels.js'

const need = (idmap: boolean, detached: boolean): Need => ({ idmap, detached })
const [plain, detached, idmap, both] = [
  need(false, false),
  need(false, true),
  need(true, false),
  need(true, true),
]
const noIdmap = 'it is for idmapped layers, and there is no idmap'
const noContext = 'EOPNOTSUPP: overlay has no fs context of its own'
const noDetached = `detachedLayers is missing (${noPathFds})`
const since = '; idmapped layers need Linux 6.15'
const noFd = 'EINVAL: lowerdir+ takes no fd'

t.test('the first that serves', async (t) => {
  const contextPassed = `rung direct was passed over: appendLayers is missing (${noContext})`
  const treePassed = `rung detached-tree was passed over: ${noDetached}${since}`
  const table: [keyof typeof kernels, Need, RungName, (string | string[])?][] = [
    ['6.18', plain, 'direct'],
    ['6.18', detached, 'direct'],
    ['6.18', idmap, 'detached-tree'],
    ['6.18', both, 'detached-tree'],
    ['6.13', plain, 'direct'],
    ['6.13', detached, 'direct'],
    ['6.7', plain, 'direct'],
    ['6.7', detached, 'direct'],
    ['6.13', idmap, 'staged', [treePassed]],
    [
      '6.7',
      both,
      'staged',
      [`rung detached-tree was passed over: ${noDetached}, layersByFd is missing (${noFd})${since}`],
    ],
    ['6.1', detached, 'staged-classic', [contextPassed]],
    ['6.1', plain, 'classic', `appendLayers is missing (${noContext})`],
    [
      '4.19',
      plain,
      'classic',
      `fsContext is missing (${absent('fsconfig')}), appendLayers is missing (${noContext})`,
    ],
  ]
  for (const [kernel, wanted, rung, passed] of table) {
    const one = typeof passed === 'string' ? [`rung direct was passed over: ${passed}`] : passed
    const notes = one ?? []
    t.same(choose(wanted, kernels[kernel], 'auto'), { rung, notes }, `${kernel} ${JSON.stringify(wanted)}`)
  }
})

t.test('a forced rung is the only one that is looked at', async (t) => {
  const table: [keyof typeof kernels, Need, RungName][] = [
    ['6.18', plain, 'classic'],
    ['6.18', plain, 'direct'],
    ['6.18', detached, 'direct'],
    ['6.18', idmap, 'detached-tree'],
    ['6.18', idmap, 'staged'],
    ['6.18', plain, 'staged'],
    ['6.18', both, 'staged-classic'],
    ['6.18', plain, 'staged-classic'],
    ['6.1', idmap, 'staged-classic'],
    ['6.1', plain, 'classic'],
  ]
  for (const [kernel, wanted, rung] of table) {
    t.same(choose(wanted, kernels[kernel], rung), { rung, notes: [] }, `${kernel} ${rung}`)
  }
})

t.test('none serves', async (t) => {
  const classicIdmap = 'mount(2) does not idmap'
  const directIdmap = 'it does not idmap'
  const classicDetached = 'mount(2) needs a target: it attaches what it makes'
  const noStaged = 'without an idmap it only costs more'
  const noUnshare = lacking(kernels['6.13'], { mountNamespaces: 'EPERM: a filter (seccomp) refuses it' })
  const namespaces = 'mountNamespaces is missing (EPERM: a filter (seccomp) refuses it)'
  const noRight = lacking(kernels['6.18'], { mayMount: 'EPERM: no CAP_SYS_ADMIN' })
  const noOverlay = lacking(kernels['6.18'], { overlay: 'ENODEV' })
  const may = 'mayMount is missing (EPERM: no CAP_SYS_ADMIN)'
  const table: [Features, Need, RungChoice, Record<string, string>][] = [
    [noUnshare, idmap, 'auto', { 'detached-tree': noDetached + since, direct: directIdmap, staged: namespaces, 'staged-classic': namespaces, classic: classicIdmap }],
    [kernels['6.13'], idmap, 'detached-tree', { 'detached-tree': noDetached + since }],
    [kernels['6.7'], idmap, 'detached-tree', { 'detached-tree': `${noDetached}, layersByFd is missing (${noFd})${since}` }],
    [kernels['6.18'], plain, 'detached-tree', { 'detached-tree': noIdmap }],
    [kernels['6.18'], idmap, 'direct', { direct: directIdmap }],
    [kernels['6.18'], idmap, 'classic', { classic: classicIdmap }],
    [kernels['6.18'], both, 'classic', { classic: classicIdmap }],
    [kernels['6.18'], detached, 'classic', { classic: classicDetached }],
    [kernels['6.1'], idmap, 'staged', { staged: `appendLayers is missing (${noContext})` }],
    [noRight, plain, 'auto', { 'detached-tree': noIdmap, direct: may, staged: noStaged, 'staged-classic': noStaged, classic: may }],
    [noRight, idmap, 'detached-tree', { 'detached-tree': may }],
    [noOverlay, plain, 'classic', { classic: 'overlay is missing (ENODEV)' }],
    [{ ...kernels['6.18'], openTree: false }, idmap, 'detached-tree', { 'detached-tree': 'openTree is missing (not there)' }],
  ] // biome-ignore format: a table
  for (const [features, wanted, choice, obstacles] of table) {
    const error = captured(() => choose(wanted, features, choice)) as RungError
    t.type(error, RungError)
    t.match(error, { name: 'RungError', code: 'ERR_OVERLAYFD_RUNG' })
    t.same(error.obstacles, obstacles)
    const list = Object.entries(obstacles).map(([rung, why]) => `${rung}: ${why}`)
    const all = `no rung can compose this: ${features.mayMount ? list.join('; ') : may}`
    const one = `rung ${choice} cannot compose this: ${Object.values(obstacles)}`
    t.equal(error.message, choice === 'auto' ? all : one)
  }
})

t.test('each feature that a rung names is one it cannot do without', async (t) => {
  const staging = ['overlay', 'mayMount', 'fsContext', 'openTree', 'mountSetattr', 'openat2', 'mountNamespaces', 'ownDirectory'] as const // biome-ignore format: a table
  const names: Record<RungName, [Need, readonly (keyof Features)[]]> = {
    'detached-tree': [idmap, ['overlay', 'mayMount', 'fsContext', 'openTree', 'detachedLayers', 'appendLayers', 'layersByFd', 'openat2']],
    direct: [plain, ['overlay', 'mayMount', 'fsContext', 'appendLayers']],
    staged: [idmap, [...staging, 'appendLayers']],
    'staged-classic': [idmap, staging],
    classic: [plain, ['overlay', 'mayMount']],
  } // biome-ignore format: a table
  for (const rung of rungs) {
    const [wanted, needed] = names[rung]
    for (const name of Object.keys(kernels['6.18']) as (keyof Features)[]) {
      const attempt = () => choose(wanted, lacking(kernels['6.18'], { [name]: 'x' }), rung)
      if (!needed.includes(name)) t.equal(attempt().rung, rung, `${rung} without ${name}`)
      else t.match(captured(attempt), { obstacles: { [rung]: new RegExp(`^${name} is missing \\(x\\)`) } })
    }
  }
})

t.test('what one mount needs and another does not', async (t) => {
  const all = kernels['6.18']
  const without = (...names: (keyof Features)[]) =>
    lacking(all, Object.fromEntries(names.map((name) => [name, 'x'])))
  const clone = { ...plain, clone: true }
  const shared = { ...plain, propagation: true }
  const inside = { ...plain, inside: true }
  const said = 'openTreeAttr is missing (x): open_tree and mount_setattr, a call more for each tree'
  const table: [Need, Features, RungChoice, RungName | RegExp, string?][] = [
    [plain, without('openTree', 'mountSetattr', 'openTreeAttr', 'openat2'), 'auto', 'direct'],
    [detached, without('openTree', 'mountSetattr'), 'auto', 'direct'],
    [shared, without('mountSetattr'), 'direct', /^rung direct .*: mountSetattr is missing \(x\)$/],
    [shared, without('openTree'), 'direct', 'direct'],
    [shared, without('mountSetattr'), 'auto', 'classic', 'rung direct was passed over: mountSetattr is missing (x)'],
    [clone, without('openTree'), 'direct', /^rung direct .*: openTree is missing \(x\)$/],
    [clone, without('mountSetattr'), 'direct', 'direct'],
    [clone, without('openTreeAttr'), 'direct', 'direct'],
    [clone, without('openTreeAttr', 'mountSetattr'), 'direct', /: openTreeAttr is missing \(x\), mountSetattr is missing \(x\)$/],
    [clone, without('appendLayers', 'layersByFd'), 'auto', 'direct'],
    [inside, without('openTree', 'mountSetattr'), 'auto', 'direct'],
    [idmap, without('openTreeAttr'), 'auto', 'detached-tree', said],
    [idmap, without('mountSetattr'), 'auto', 'detached-tree'],
    [{ ...idmap, propagation: true }, without('mountSetattr'), 'detached-tree', /: mountSetattr is missing \(x\)$/],
    [idmap, without('openTreeAttr', 'mountSetattr'), 'detached-tree', /: openTreeAttr is missing \(x\), mountSetattr is missing \(x\)$/],
    [{ ...idmap, images: true }, without('openTreeAttr'), 'auto', 'detached-tree', said],
    [{ ...plain, images: true }, without('detachedLayers'), 'direct', /: detachedLayers is missing \(x\); erofs images as layers need Linux 6\.15$/],
  ] // biome-ignore format: a table
  for (const [wanted, features, choice, outcome, note] of table) {
    const about = `${JSON.stringify(wanted)} ${Object.keys(features.reasons)} ${choice}`
    if (outcome instanceof RegExp)
      t.throws(() => choose(wanted, features, choice), { message: outcome }, about)
    else t.same(choose(wanted, features, choice), { rung: outcome, notes: note ? [note] : [] }, about)
  }
})

t.test('names', async (t) => {
  t.same(rungs, ['detached-tree', 'direct', 'staged', 'staged-classic', 'classic'])
  for (const name of [...rungs, 'auto'] as const) t.equal(parseRung(name, 'x'), name)
  for (const unset of [undefined, '']) t.equal(parseRung(unset, 'x'), 'auto')
  for (const wrong of ['Direct', 'stage', 7, null, {}]) {
    const message =
      /^The "options\.rung" argument must be one of 'auto', 'detached-tree', 'direct', 'staged', 'staged-classic', 'classic'/
    t.throws(() => parseRung(wrong, 'options.rung'), { code: 'ERR_INVALID_ARG_VALUE', message })
  }
})
