/**
 * Plans that are kept: a mount with the plan of an earlier one, filled with its own paths, is the mount that would
 * have been planned for it alone. Without a kernel for all that may be asked for, and with it for what fails.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import type { Features } from '../../lib/host/features.js'
import { Mounter, type StackMountOptions } from '../../lib/index.js'
import type { RungChoice } from '../../lib/overlay/choose.js'
import type { OpenLayers, TopAttributes } from '../../lib/overlay/layers.js'
import {
  type Base,
  nothingKept,
  type PlannedMount,
  planMount,
  planWarm,
} from '../../lib/overlay/plan-mount.js'
import { parseMount, parseStack, type StackSpec } from '../../lib/overlay/spec.js'
import { fillPlan } from '../../lib/program/fill.js'
import { held } from '../../lib/program/plan.js'
import { privileged } from '../support/needs.js'
import { ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'
import { kernels } from './kernels.js'

/** Layers in two directories; the last one has none above it. */
const layersOf = (spec: StackSpec): OpenLayers => ({
  list: spec.layers.map((_, i, all) => ({
    subject: { option: 'lowerdir', index: i, path: `/l/${i}` },
    key: 'lowerdir+',
    identity: { dev: 1n, ino: BigInt(100 + i), mountId: 5n },
    fd: held(10 + i, `/l/${i}`),
    group: i === all.length - 1 ? 2 : i % 2,
    name: i === all.length - 1 ? undefined : Buffer.from(`${i}/fs`),
  })),
  groups: [0, 1, 2].map((i) => ({ root: held(20 + i, `/g/${i}`) })),
  idmapped: spec.idmap !== undefined,
  staged: false,
  userns: spec.idmap && held(30, 'userns'),
})
const top: TopAttributes = {
  mode: 0o751,
  uid: 7,
  gid: 8,
  xattrs: [[Buffer.from('user.note'), Buffer.from('kept')]],
}

interface Setting {
  readonly host: { readonly features: Features; readonly rung: RungChoice }
  readonly base: Base
}
const settingOf = (
  kernel: keyof typeof kernels,
  rung: RungChoice,
  layers: number,
  idmap?: number,
  initialUserNamespace = true,
): Setting => {
  const lowerdir = Array.from({ length: layers }, (_, i) => `/l/${i}`)
  const spec = parseStack({ lowerdir, ...(idmap ? { idmap: mapping(idmap) } : {}) })
  const stage = { lease: undefined }
  const base = { spec, layers: layersOf(spec), top: () => top, kept: nothingKept(), stage }
  return { host: { features: { ...kernels[kernel], initialUserNamespace }, rung }, base }
}
const settings: [...Parameters<typeof settingOf>][] = [
  ['6.18', 'auto', 3, 100_000],
  ['6.18', 'auto', 3],
  ['6.18', 'auto', 3, undefined, false],
  ['6.18', 'auto', 1, 100_000],
  ['6.18', 'auto', 1],
  ['6.13', 'direct', 4],
  ['6.7', 'auto', 2],
  ['6.1', 'classic', 3],
  ['4.19', 'auto', 1],
]

const name = fc.oneof(
  fc.stringMatching(/^[a-z0-9 ,:\\]{1,12}$/),
  fc
    .uint8Array({ min: 1, minLength: 1, maxLength: 9 })
    .map((list) => String(Buffer.from(list.map((n) => n || 1)))),
)
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => `/${names.join('/')}/x`)
const onOff = fc.constantFrom('on' as const, 'off' as const)
/** Left out every second time: what is asked for most is least. */
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 2 })
const asked: fc.Arbitrary<StackMountOptions> = fc
  .record({
    dirs: optional(fc.record({ upperdir: path, workdir: path })),
    target: optional(
      fc.oneof(
        path,
        fc.record({
          path,
          mountNamespace: fc.oneof(path, fc.nat(9), fc.record({ pid: fc.integer({ min: 1, max: 99 }) })),
        }),
      ),
    ),
    idmap: optional(fc.constantFrom(100_000, 200_000, 300_000).map((outside) => mapping(outside))),
    upper: optional(fc.constantFrom('asis' as const, 'shifted' as const, 'idmapped' as const)),
    create: optional(fc.boolean()),
    options: optional(
      fc.record(
        {
          volatile: fc.constantFrom(true, false, 'reset' as const),
          index: onOff,
          xino: onOff,
          metacopy: onOff,
          userxattr: fc.boolean(),
          context: fc.constantFrom('a:b:c:s0', 'a:b:c:s0:c1,c2', 'd:e:f:s0'),
          rootcontext: fc.constantFrom('r:s0', 'r:s1'),
        },
        { requiredKeys: [] },
      ),
    ),
    attributes: optional(
      fc.record(
        {
          readonly: fc.boolean(),
          nodev: fc.boolean(),
          atime: fc.constantFrom('noatime' as const, 'relatime' as const),
        },
        { requiredKeys: [] },
      ),
    ),
    propagation: optional(fc.constantFrom('slave' as const, 'private' as const)),
  })
  .map(({ dirs, ...rest }) => {
    const given = Object.entries({ ...dirs, ...rest }).filter(([, value]) => value !== undefined)
    return Object.fromEntries(given) as StackMountOptions
  })

/** What a way of planning makes of a request: all that can be told of it, or its error. */
const outcome = (plan: () => PlannedMount): object => {
  try {
    const { rung, composition, fills = [] } = plan()
    const filled = fillPlan(composition.plan, fills)
    const { holes, parts, inputs } = filled
    return {
      rung,
      printed: String(filled),
      subjects: filled.steps.map(({ subject }) => `${subject?.option} ${subject?.index} ${subject?.path}`),
      conditions: filled.steps.map(({ ifDone }) => (ifDone ? filled.indexOf(ifDone) : -1)),
      whens: filled.steps.map(({ when, commits, report, identifies }) => [when, commits, report, identifies]),
      identity: composition.plan.indexOf(composition.identity),
      outputs: composition.outputs,
      kind: composition.kind,
      sizes: [holes, parts.length, inputs.length, filled.slots, filled.registers],
      cost: filled.cost,
    }
  } catch (error) {
    return { thrown: (error as Error).name, message: (error as Error).message }
  }
}

for (const [i, setting] of settings.entries()) {
  t.test(`a plan that is kept is the plan that would be made: ${setting.join(' ')}`, async (t) => {
    const warm = settingOf(...setting)
    let planned = 0
    const property = fc.property(fc.array(asked, { minLength: 1, maxLength: 6 }), (list) => {
      for (const options of list) {
        const cold = settingOf(...setting)
        let spec: ReturnType<typeof parseMount>
        try {
          spec = parseMount(options, warm.base.spec)
        } catch {
          continue
        }
        const kept = outcome(() => planWarm(warm.host, warm.base, spec))
        t.same(
          kept,
          outcome(() => planMount(cold.host, cold.base, spec)),
        )
        planned++
      }
    })
    fc.assert(property, { numRuns: 100, seed: 7 + i })
    t.ok(planned > 50, `${planned} specs`)
    t.ok(warm.base.kept.templates.size > 1)
  })
}

t.test('mounts of one shape share a plan; what looks into its paths has one of its own', async (t) => {
  const { host, base } = settingOf('6.18', 'auto', 3, 100_000)
  const plan = (options: StackMountOptions) => planWarm(host, base, parseMount(options, base.spec))
  const at = (n: number) => ({ upperdir: `/c/${n}/upper`, workdir: `/c/${n}/work`, target: `/c/${n}/rootfs` })
  const same: [string, (n: number) => StackMountOptions][] = [
    ['writable', at],
    ['read-only', (n) => ({ target: `/c/${n}` })],
    ['detached', () => ({})],
    ['create', (n) => ({ ...at(n), create: true })],
    ['inside', (n) => ({ ...at(n), target: { path: `/c/${n}`, mountNamespace: n } })],
    ['create inside', (n) => ({ target: { path: `/c/${n}`, mountNamespace: { pid: n } }, create: true })],
    ['create a target', (n) => ({ target: `/c/${n}`, create: true })],
    ['shifted', (n) => ({ ...at(n), upper: 'shifted' })],
    ['options', (n) => ({ ...at(n), options: { volatile: true, index: 'off' } })],
    ['a context', (n) => ({ ...at(n), options: { context: `u:r:t:s0:c${n},c9`, xino: 'on' } })],
    ['a mapping of its own', (n) => ({ ...at(n), idmap: mapping(200_000 + 65_536 * n) })],
  ]
  const seen = new Set<object>()
  for (const [name, options] of same) {
    const [one, two] = [plan(options(1)), plan(options(2))]
    t.equal(one.composition.plan, two.composition.plan, name)
    t.equal(one.fills?.length, one.composition.plan.holes)
    seen.add(one.composition.plan)
  }
  t.equal(seen.size, same.length, 'and no other')
  const own: ((n: number) => StackMountOptions)[] = [
    (n) => ({ ...at(n), upper: 'idmapped' }),
    (n) => ({ ...at(n), upper: 'shifted', idmap: mapping(200_000 + n) }),
  ]
  for (const options of own) {
    t.not(plan(options(1)).composition.plan, plan(options(1)).composition.plan)
    t.equal(plan(options(1)).composition.plan.holes, 0)
  }
  const inside = settingOf('6.18', 'auto', 3, undefined, false)
  const shared = (options: StackMountOptions) =>
    planWarm(inside.host, inside.base, parseMount(options, inside.base.spec)).composition.plan
  const added = shared({ target: '/mnt' })
  t.equal(shared({ target: '/mnt2' }), added, 'with userxattr added')
  t.match(String(added), /userxattr/)
  t.notMatch(String(shared({ target: '/mnt', options: { userxattr: false } })), /userxattr"/, 'not added')
  const first = plan(at(1)).composition.plan
  const changed = { ...host, features: { ...host.features } }
  t.not(planWarm(changed, base, parseMount(at(1), base.spec)).composition.plan, first, 'other features')
})

for (const { rung, idmap } of ways) {
  t.test(`${rung}: a warm mount that fails names its own paths`, privileged, async (t) => {
    const area = scratch(t)
    const mounter = new Mounter({ rung })
    t.teardown(() => mounter.close())
    const stack = await mounter.open({ lowerdir: area.layers(2), idmap })
    const containers = Array.from({ length: 9 }, (_, i) => area.container(`number-${i}`))
    const spoil: [string, string, (i: number) => void][] = [
      ['target', 'ENOENT', (i) => rmSync(containers[i]!.target, { recursive: true })],
      ['upperdir', 'ENOENT', (i) => rmSync(containers[i]!.upperdir, { recursive: true })],
      [
        'workdir',
        'ENOTDIR',
        (i) => {
          rmSync(containers[i]!.workdir, { recursive: true })
          writeFileSync(containers[i]!.workdir, '')
        },
      ],
    ]
    for (const [i, [, , act]] of spoil.entries()) act(3 * i + 1)
    const results = await Promise.allSettled(containers.map((at) => stack.mount(at)))
    for (const [i, result] of results.entries()) {
      if (i % 3 !== 1) {
        t.equal(result.status, 'fulfilled', `${i}`)
        continue
      }
      const [option, code] = spoil[(i - 1) / 3]!
      const path = containers[i]![option as 'target']
      const error = result.status === 'rejected' ? result.reason : undefined
      t.match(error, { name: 'MountError', code, rung })
      t.equal(String(error?.path), path, option)
      t.match(error?.message, path)
      const others = containers.map((_, j) => `number-${j}`).filter((_, j) => j !== i)
      t.same(
        others.filter((other) => `${error?.message} ${error?.hint}`.includes(other)),
        [],
        'and no other',
      )
      t.throws(() => stack.mountSync(containers[i]!), { code, message: error?.message })
    }
    for (const result of results) if (result.status === 'fulfilled') await result.value.unmount()
    mkdirSync(join(containers[1]!.target), { recursive: true })
    await (await stack.mount(containers[1]!)).unmount()
    await stack.close()
  })

  t.test(`${rung}: what explain shows is what is run, in whatever order`, privileged, async (t) => {
    const area = scratch(t)
    const mounter = new Mounter({ rung })
    t.teardown(() => mounter.close())
    const stack = await mounter.open({ lowerdir: area.layers(2), idmap })
    const shapes: ((at: ReturnType<typeof area.container>) => StackMountOptions)[] = [
      (at) => at,
      ({ target }) => ({ target }),
      (at) => ({ ...at, options: { index: 'on' } }),
      (at) => ({ ...at, create: true }),
      (at) => ({ ...at, attributes: { nodev: true }, propagation: 'slave' }),
    ]
    for (let round = 0; round < 3; round++) {
      for (const [i, shape] of shapes.entries()) {
        const at = area.container(`${round}-${i}`)
        const options = shape(at)
        const explained = String(stack.explain(options))
        t.match(explained, at.target)
        const rootfs = await stack.mount(options)
        t.equal(rootfs.path, at.target)
        t.equal(String(stack.explain(options)), explained, 'a plan that is kept changes nothing of it')
        await rootfs.unmount()
      }
    }
    await stack.close()
  })
}
