/**
 * What explain says a bind or a tmpfs costs is what strace counts of it; and the order of its calls: a bind is visible
 * only after it has got its attributes.
 */
import t from 'tap'
import type { Cost } from '../../lib/index.js'
import { dist } from '../support/child.js'
import { umount, volume } from '../support/mount-forms.js'
import { all, privileged, programs } from '../support/needs.js'
import { scratch } from '../support/scratch.js'
import { between, isOfPlan, type Syscall, straceModule, tally } from '../support/strace.js'

interface Case {
  readonly name: string
  readonly of: 'Bind' | 'Tmpfs'
  /** as the child's script has them */
  readonly options: string
  readonly rung?: string
  /** writers of namespace_sem, by the rules that were measured */
  readonly writes: number
}

const cases: readonly Case[] = [
  { name: 'a bind', of: 'Bind', options: '{ source, target }', writes: 3 },
  {
    name: 'recursive, idmapped, read-only',
    of: 'Bind',
    options: '{ source, target, recursive: true, idmap, attributes: { readonly: true } }',
    writes: 3,
  },
  {
    name: 'attributes of the top alone',
    of: 'Bind',
    options: '{ source, target, recursive: true, attributes: { readonly: true, recursive: false } }',
    writes: 3,
  },
  { name: 'created', of: 'Bind', options: "{ source, target: target + '/new', create: true }", writes: 3 },
  { name: 'private', of: 'Bind', options: "{ source, target, propagation: 'private' }", writes: 4 },
  { name: 'inside', of: 'Bind', options: "{ source, target: { mount: outer, path: 'in' } }", writes: 3 },
  {
    name: 'a source inside',
    of: 'Bind',
    options: "{ source: { mount: outer, path: 'in' }, target }",
    writes: 3,
  },
  { name: 'a tmpfs', of: 'Tmpfs', options: "{ target, options: { size: '1m', mode: 0o755 } }", writes: 1 },
  { name: 'a tmpfs inside', of: 'Tmpfs', options: "{ target: { mount: outer, path: 'in' } }", writes: 1 },
  { name: 'by mount(2)', of: 'Bind', options: '{ source, target }', rung: 'classic', writes: 2 },
  {
    name: 'by mount(2), read-only',
    of: 'Bind',
    options: '{ source, target, attributes: { readonly: true } }',
    rung: 'classic',
    writes: 2,
  },
  { name: 'a tmpfs by mount(2)', of: 'Tmpfs', options: '{ target }', rung: 'classic', writes: 1 },
]

const script = (source: string, target: string) => `
import { mkdirSync } from 'node:fs'
import * as lib from ${JSON.stringify(dist('index.js'))}
const [source, target] = ${JSON.stringify([source, target])}
const range = [{ inside: 0, outside: 100000, length: 65536 }]
const idmap = { uid: range, gid: range }
const mounters = {}
for (const rung of ['auto', 'classic']) {
  mounters[rung] = new lib.Mounter({ rung, threads: 1, reapers: 1 })
  await (await mounters[rung].mountTmpfs({ target })).unmount()
  await mounters[rung].idle()
}
const outer = await mounters.auto.mountTmpfs({})
mkdirSync(outer.path + '/in')
await outer.attach(target)
${cases
  .map(
    ({ of, options, rung = 'auto' }, i) => `
{
  const mounter = mounters['${rung}']
  console.log(JSON.stringify(lib.explain${of}(${options}, { rung: '${rung}' }).cost))
  mark('begin-${i}')
  const made = await mounter.mount${of}(${options})
  await mounter.trim()
  mark('end-${i}')
  await made.unmount()
  await mounter.trim()
}`,
  )
  .join('')}
await outer.unmount()
for (const mounter of Object.values(mounters)) await mounter.close()
`

t.test('what explain says is what strace counts', all(privileged, programs('strace')), async (t) => {
  const area = scratch(t)
  const source = volume(area)
  const { status, stdout, stderr, calls } = await straceModule(script(source, area.mkdir('target')))
  t.equal(status, 0, stderr)
  const costs = stdout
    .trim()
    .split('\n')
    .map((line): Cost => JSON.parse(line))
  t.equal(costs.length, cases.length)
  for (const [i, { name, writes, rung }] of cases.entries()) {
    const cost = costs[i] as Cost
    const made = between(calls, `begin-${i}`, `end-${i}`).filter(isOfPlan)
    t.same(tally(made), cost.calls, `${name}: calls`)
    t.equal(made.length, cost.syscalls, `${name}: their sum`)
    t.equal(cost.namespaceSemWrites, writes, `${name}: writers of namespace_sem`)
    t.equal(cost.gracePeriods, 0, `${name}: grace periods`)
    t.equal(cost.temporaryMounts, 0, `${name}: nothing that others can see`)
    const names = made.map(({ name }) => name)
    const visible = names.indexOf('move_mount')
    t.equal(visible >= 0, rung !== 'classic', name)
    const last = names.findLastIndex((call, at) => /setattr|_attr$/.test(call) && !isAfter(made[at]))
    if (visible >= 0) t.ok(last < visible, `${name}: its attributes come before the attach`)
  }
  umount(`${source}/sub`)
})

/** The one change that comes after: a propagation that was asked for. */
const isAfter = (call: Syscall | undefined) => /MS_PRIVATE|0x40000/.test(call?.args ?? '')
