/**
 * What a plan says it costs is what strace counts of the real call: every system call by name, and the writers
 * of namespace_sem and grace periods that follow from them. A child process loads dist/, does each case
 * between two marks, and prints what it had explained.
 */
import t, { type Test } from 'tap'
import type { Cost, LayerSource } from '../../lib/index.js'
import { isStaged } from '../../lib/overlay/choose.js'
import { dist } from '../support/child.js'
import { startContainer } from '../support/container.js'
import { hasMkfsErofs, imagesOf } from '../support/images.js'
import { lockWrites } from '../support/lock-writes.js'
import { all, privileged, programs } from '../support/needs.js'
import { imageWays, type Way, ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'
import { between, isOfPlan, type Syscall, straceModule, tally } from '../support/strace.js'

interface Case {
  readonly name: string
  /** expressions of the child's script: what is explained, and what is then done */
  readonly explain: string
  readonly act: string
  /** only where there is an idmap */
  readonly idmap?: boolean
  /** not on these rungs */
  readonly not?: string
}

const at = (name: string) => `at('${name}')`
const target = (name: string) => `{ target: at('${name}').target }`
const mount = (name: string, options: string, rest: Partial<Case> = {}, stack = 'stack'): Case => ({
  name,
  explain: `${stack}.explain(${options})`,
  act: `made = await ${stack}.mount(${options})`,
  ...rest,
})
const once = (name: string, options: string): Case => ({
  name: `one-shot ${name}`,
  explain: `explain(${options}, { rung })`,
  act: `made = await mounter.mount(${options}); await mounter.trim()`,
})
/** It answers before its end: what is left of it is waited for. */
const unmount = (name: string, setUp: string, explain: string, options = '{}'): Case => ({
  name: `unmount ${name}`,
  explain: `(made = await ${setUp}, { cost: ${explain}.cost })`,
  act: `await made.unmount(${options}); await mounter.idle(); made = undefined`,
})
const attached = (kind: 'overlay' | 'clone', way = '{ lazy: true, early: true }') =>
  `reap.planUnmount({ target: Buffer.from(made.path), mountId: made.mountId, dev: 0n, kind: '${kind}', ` +
  `claim: ${kind === 'overlay' ? 1 : 0} }, ${way}, features()).plan`

const cases: readonly Case[] = [
  mount('warm', at('warm')),
  mount('warm, read-only', target('read-only')),
  mount('with a mapping of its own', `{ ...${at('own')}, idmap: mapping(1) }`, { idmap: true }),
  mount('detached', `{ ...${at('detached')}, target: undefined }`, { not: 'classic' }),
  mount('with options', `{ ...${at('options')}, options: { volatile: true, index: 'off', xino: 'auto' } }`),
  mount('attributes', `{ ...${at('a')}, propagation: 'slave', attributes: { nodev: true, readonly: true } }`),
  mount("upper: 'shifted'", `{ ...${at('shifted')}, upper: 'shifted' }`, { idmap: true }),
  mount("upper: 'idmapped'", `{ ...${at('idmapped')}, upper: 'idmapped' }`, { idmap: true }),
  mount('volatile: reset', `{ ...${at('reset')}, options: { volatile: 'reset' } }`),
  mount('inside', `{ ...at('in'), target: inside('/rootfs') }`, { not: 'classic' }),
  mount(
    'inside, created',
    `{ ...fresh('in2'), target: inside('/made'), create: true, propagation: 'slave' }`,
    { not: 'classic' },
  ),
  mount('inside, a clone', `{ target: inside('/rootfs') }`, { not: 'classic' }, 'one'),
  mount('checkUpper', `{ ...${at('checked')}, checkUpper: true }`),
  mount('create', `{ ...fresh('created'), create: true }`),
  mount('create, own mapping', `{ ...fresh('c2'), create: true, idmap: mapping(2) }`, { idmap: true }),
  mount('a clone', target('clone'), {}, 'one'),
  mount('a clone, own mapping', `{ ...${target('clone2')}, idmap: mapping(6) }`, { idmap: true }, 'one'),
  once('mount', `{ lowerdir, ...${at('once')}, idmap: own(3) }`),
  once('create', `{ lowerdir, ...fresh('once-created'), create: true, idmap: own(4) }`),
  once('clone', `{ lowerdir: lowerdir.slice(0, 1), ...${target('once-clone')}, idmap: own(5) }`),
  unmount('an overlay', `stack.mount(${at('un')})`, attached('overlay')),
  unmount('a clone', `one.mount(${target('unclone')})`, attached('clone')),
  unmount(
    'an overlay, with its teardown',
    `stack.mount(${at('torn')})`,
    attached('overlay', '{ lazy: true, early: false, inotify: 9 }'),
    `{ wait: 'teardown' }`,
  ),
  unmount(
    'an overlay, not lazily',
    `stack.mount(${at('busy')})`,
    attached('overlay', '{ lazy: false, early: true }'),
    '{ lazy: false }',
  ),
  ...(['{ lazy: true, early: true }', '{ lazy: false, early: true }'] as const).map((way) => ({
    ...unmount(
      `inside, ${way}`,
      `stack.mount({ ...at('un-in'), target: inside('/rootfs') })`,
      `togetherWith(reap.planDiscard({ fds: [made.namespaceFd] }), reap.planUnmountInside({ target: Buffer.from(made.path), mountId: made.mountId, dev: 0n, kind: 'overlay', ` +
        `claim: 1 }, made.namespaceFd, ${way}, features()))`,
      `{ lazy: ${way.includes('lazy: true')} }`,
    ),
    not: 'classic',
  })),
  {
    ...unmount('a detached one', `stack.mount({})`, '{ cost: closed }'),
    not: 'classic',
  },
]

/** With many layers: by the numbers of kept fds, and by names below a tree of the mount's own. */
const manyCases: readonly Case[] = [
  mount('warm', at('warm')),
  mount('with a mapping of its own', `{ ...${at('own')}, idmap: mapping(1) }`),
  once('mount', `{ lowerdir, ...${at('once')}, idmap: own(3) }`),
]

/** With layers that are images: two of the stack's own, and two that no stack has mounted. */
const imageCases: readonly Case[] = [
  mount('images', at('images')),
  mount('images, own mapping', `{ ...${at('own')}, idmap: mapping(7) }`, { idmap: true }),
  mount('an image alone', target('alone'), {}, 'one'),
  mount(
    'an image alone, own mapping',
    `{ ...${target('alone2')}, idmap: mapping(8) }`,
    { idmap: true },
    'one',
  ),
  // with a mapping, what is closed is not all closed together
  { ...once('images', `{ lowerdir: unused, ...${at('once')} }`), not: 'detached-tree' },
  { ...once('an image', `{ lowerdir: unused.slice(0, 1), ...${target('once')} }`), not: 'detached-tree' },
]

/** Each case between marks of its own; what it had explained goes to standard output, a line a case. */
const script = (
  rung: string,
  idmap: unknown,
  lowerdir: readonly LayerSource[],
  unused: readonly LayerSource[],
  dir: string,
  wanted: readonly Case[],
  pid: number,
) => `
import { mkdirSync } from 'node:fs'
import { explain, features, Mounter } from ${JSON.stringify(dist('index.js'))}
import * as reap from ${JSON.stringify(dist('overlay/reap.js'))}
import { costOf } from ${JSON.stringify(dist('program/cost.js'))}
const [rung, idmap, lowerdir, unused] = ${JSON.stringify([rung, idmap ?? null, lowerdir, unused])}
// the handle's fd of the namespace goes with others
const togetherWith = (...plans) => ({ cost: costOf(plans) })
const mapping = (n) => {
  const range = [{ inside: 0, outside: 65536 * (10 + n), length: 65536 }]
  return { uid: range, gid: range }
}
const own = (n) => (idmap ? mapping(n) : undefined)
const paths = (name) => ({
  upperdir: '${dir}/' + name + '/upper', workdir: '${dir}/' + name + '/work', target: '${dir}/' + name + '/rootfs'
})
const fresh = (name) => {
  mkdirSync('${dir}/' + name, { recursive: true })
  return paths(name)
}
const inside = (path) => ({ path, mountNamespace: { pid: ${pid} } })
const at = (name) => {
  const dirs = paths(name)
  for (const path of Object.values(dirs)) mkdirSync(path, { recursive: true })
  return dirs
}
// one thread of each kind, each of which has been at work: their making is not the plans'
const mounter = new Mounter({ rung, threads: 1, reapers: 1 })
const stack = await mounter.open({ lowerdir, idmap: idmap ?? undefined })
const one = await mounter.open({ lowerdir: lowerdir.slice(0, 1), idmap: idmap ?? undefined })
await (await stack.mount(at('first'))).unmount()
if (rung !== 'classic') await (await stack.mount({ target: inside('/rootfs') })).unmount()
await mounter.idle()
const closed = reap.planCloseMount(9, 0, { early: true }).cost
let made
${wanted
  .map(
    ({ explain, act }, i) => `
{
  const { cost } = ${explain}
  console.log(JSON.stringify(cost))
  mark('begin-${i}')
  ${act}
  mark('end-${i}')
  await made?.unmount()
  await mounter.trim()
}`,
  )
  .join('')}
await stack.close()
await one.close()
await mounter.close()
`

/** Runs the cases of a rung under strace, and compares. */
async function compare(
  t: Test,
  { rung, idmap }: Way,
  cases: readonly Case[],
  lowerdir: readonly LayerSource[],
  unused: readonly LayerSource[],
  dir: string,
): Promise<void> {
  const container = await startContainer(t)
  const wanted = cases.filter((one) => (idmap || !one.idmap) && one.not !== rung)
  const text = script(rung, idmap, lowerdir, unused, dir, wanted, container.pid)
  const { status, stdout, stderr, calls } = await straceModule(text)
  t.equal(status, 0, stderr)
  const explained = stdout
    .trim()
    .split('\n')
    .map((line): Cost => JSON.parse(line))
  t.equal(explained.length, wanted.length)
  for (const [i, { name, act }] of wanted.entries()) {
    const cost = explained[i] as Cost
    const made = between(calls, `begin-${i}`, `end-${i}`).filter(isOfPlan)
    t.same(tally(made), cost.calls, `${name}: calls`)
    t.equal(made.length, cost.syscalls, `${name}: their sum`)
    const { writes, grace } = lockWrites(
      made,
      calls.slice(0, calls.indexOf(made[0] as Syscall)),
      !name.includes('clone'),
    )
    // strace 6.1 has no words for open_tree_attr: a clone of a layer is also taken out of its peer group
    const isAttr = name.includes('clone') && made.some(({ name }) => name === 'open_tree_attr')
    t.equal(writes + (isAttr ? 1 : 0), cost.namespaceSemWrites, `${name}: writers of namespace_sem`)
    t.equal(grace, cost.gracePeriods, `${name}: grace periods`)
    t.equal(cost.temporaryMounts, 0, `${name}: nothing that others can see`)
    t.ok(made.length > 0, act)
  }
}

for (const way of ways) {
  const title = `${way.rung}: what explain says is what strace counts`
  t.test(title, all(privileged, programs('strace')), async (t) => {
    const area = scratch(t)
    await compare(t, way, cases, area.layers(3), [], area.mkdir('c'))
  })

  for (const count of isStaged(way.rung) ? [50, 500] : []) {
    t.test(`${title}, ${count} layers`, all(privileged, programs('strace')), async (t) => {
      const area = scratch(t)
      await compare(t, way, manyCases, area.layers(count), [], area.mkdir('c'))
    })
  }

  if (!imageWays.includes(way)) continue
  t.test(`${title}, of images`, all(privileged, programs('strace'), hasMkfsErofs), async (t) => {
    const area = scratch(t)
    const layers = area.layers(4)
    const { images } = imagesOf(area, layers)
    const [lowerdir, unused] = [images.slice(0, 2), images.slice(2)]
    await compare(
      t,
      way,
      imageCases,
      [...lowerdir, ...layers.slice(2)],
      [...unused, layers[0]!],
      area.mkdir('c'),
    )
  })
}
