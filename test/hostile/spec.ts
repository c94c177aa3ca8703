/**
 * Random specs of overlays, binds and tmpfs: what is asked for, with no kernel in it. What does not go together is asked
 * for too, as long as each value is one that its option takes.
 */
import fc from 'fast-check'
import { type RungChoice, rungs } from '../../lib/index.js'
import { optionTable } from '../../lib/overlay/option-table.js'
import { name, place } from './names.js'

export const manyLayers = 300

const maybe = <T>(arbitrary: fc.Arbitrary<T>, weight = 1) =>
  fc.oneof({ weight: 2, arbitrary: fc.constant(undefined) }, { weight, arbitrary })
const either = fc.boolean()

const attributes = fc.record(
  {
    readonly: either,
    nosuid: either,
    nodev: either,
    noexec: either,
    nodiratime: either,
    nosymfollow: either,
    atime: fc.constantFrom('relatime', 'noatime', 'strictatime'),
  },
  { requiredKeys: [] },
)

type OptionName = keyof typeof optionTable

/** SELinux, which most kernels here do not have: one name of four, so that not every spec fails of it. */
const optionNames = (Object.keys(optionTable) as OptionName[]).filter(
  (option) => optionTable[option].kind !== 'text' || option === 'context',
)

/** Some rows of the option table, each with one of its values. */
const options = fc.uniqueArray(fc.constantFrom(...optionNames), { maxLength: 3 }).chain((names) =>
  fc.record(
    Object.fromEntries(
      names.map((option) => {
        const { kind } = optionTable[option]
        if (Array.isArray(kind)) return [option, fc.constantFrom(...kind)]
        if (kind === 'text') return [option, fc.constant('system_u:object_r:tmp_t:s0')]
        return [option, option === 'volatile' ? fc.constantFrom(true, 'reset') : either]
      }),
    ),
  ),
)

/** First id outside of a mapping. */
const idmaps = fc.constantFrom(undefined, 100_000, 100_000, 300_000)

const overlay = fc.record({
  kind: fc.constant('overlay' as const),
  count: fc.oneof(
    { weight: 5, arbitrary: fc.constant(1) },
    { weight: 20, arbitrary: fc.integer({ min: 2, max: 8 }) },
    { weight: 1, arbitrary: fc.integer({ min: 100, max: manyLayers }) },
  ),
  first: fc.nat(8),
  /** how the first layer is given */
  as: fc.constantFrom('path', 'path', 'bytes', 'fd'),
  /** the last one is of another file system */
  isMixed: fc.constantFrom(false, false, true),
  data: fc.constantFrom(0, 0, 0, 0, 1, 2),
  upper: fc.constantFrom('both', 'both', 'both', 'none', 'none', 'none', 'no work'),
  upperMode: maybe(fc.constantFrom('asis' as const, 'shifted' as const, 'idmapped' as const)),
  idmap: idmaps,
  /** of the mount's own */
  own: maybe(idmaps),
  isStack: either,
  options: maybe(options, 3),
  checkUpper: fc.constantFrom(undefined, undefined, undefined, true),
})
const bind = fc.record({ kind: fc.constant('bind' as const), idmap: idmaps, isRecursive: either })
const tmpfs = fc.record({
  kind: fc.constant('tmpfs' as const),
  size: maybe(fc.constantFrom('1m', 65_536, '1%')),
  mode: maybe(fc.constantFrom(0o700, 0o1777)),
})

export const specs = fc.record({
  what: fc.oneof(
    { weight: 8, arbitrary: overlay },
    { weight: 1, arbitrary: bind },
    { weight: 1, arbitrary: tmpfs },
  ),
  rung: fc.constantFrom<RungChoice>('auto', 'auto', 'auto', ...rungs),
  /** `undefined` stays detached at first */
  target: fc.oneof(
    { weight: 5, arbitrary: place.map((parts) => ({ parts, inGroup: false })) },
    { weight: 1, arbitrary: name.map((part) => ({ parts: [part], inGroup: true })) },
    { weight: 1, arbitrary: fc.constant(undefined) },
  ),
  /** neither upper nor work nor target are there */
  isMissing: fc.constantFrom(false, false, true),
  create: maybe(either),
  attributes: maybe(attributes),
  propagation: maybe(fc.constantFrom('shared', 'private', 'slave', 'unbindable')),
  /** all of it lies below a shared mount */
  isShared: either,
  isSync: either,
})

export type Spec = typeof specs extends fc.Arbitrary<infer S> ? S : never
export type OverlaySpec = Extract<Spec['what'], { kind: 'overlay' }>
