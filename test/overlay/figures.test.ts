/**
 * The figures that the package promises for a warm stack of 50 idmapped layers: what 100 containers cost in mount
 * operations, as strace counts them over all threads, and what is left of them when the stack is closed.
 */
import t from 'tap'
import { dist } from '../support/child.js'
import { all, privileged, programs } from '../support/needs.js'
import { scratch } from '../support/scratch.js'
import { between, straceModule, tally } from '../support/strace.js'

const CONTAINERS = 100
const LAYERS = 50
/** All calls are traced: strace 6.1 cannot be told to look for open_tree_attr alone. */
const mountCall = /^(fsopen|fspick|fsmount|move_mount|open_tree|open_tree_attr|mount|mount_setattr|umount2)$/

interface Seen {
  fds: number[]
  mounts: number[]
  strangers: string[]
  trees: string[]
}

const script = (lowerdir: readonly string[], dir: string) => `
import { mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { Mounter } from ${JSON.stringify(dist('index.js'))}
const mapping = (n) => {
  const range = [{ inside: 0, outside: 65536 * (10 + n), length: 65536 }]
  return { uid: range, gid: range }
}
const lines = () => readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\\n').map((line) => line.split(' ')[4])
const links = () => readdirSync('/proc/self/fd').flatMap((fd) => {
  try { return [readlinkSync('/proc/self/fd/' + fd)] } catch { return [] }
})
const containers = Array.from({ length: ${CONTAINERS} }, (_, i) => {
  const at = (part) => {
    mkdirSync('${dir}/' + i + '/' + part, { recursive: true })
    return '${dir}/' + i + '/' + part
  }
  return { upperdir: at('upper'), workdir: at('work'), target: at('rootfs') }
})
const mounter = new Mounter()
const lowerdir = ${JSON.stringify(lowerdir)}
// threads and what Node opens at its first use are not the stack's
const first = await mounter.mount({ lowerdir, idmap: mapping(0) })
await first.unmount()
await mounter.trim()
const seen = { fds: [links().length], mounts: [lines().length], strangers: [], trees: [] }
const stack = await mounter.open({ lowerdir, idmap: mapping(0) })

const round = async (name, idmap) => {
  mark('begin-' + name)
  const mounted = await Promise.all(containers.map((at, i) => stack.mount({ ...at, idmap: idmap(i) })))
  mark('mounted-' + name)
  const targets = new Set(containers.map(({ target }) => target))
  const now = lines()
  seen.mounts.push(now.length)
  seen.strangers.push(...now.slice(seen.mounts[0]).filter((target) => !targets.has(target)))
  await mounter.idle()
  mark('collected-' + name)
  await Promise.all(mounted.map((rootfs) => rootfs.unmount()))
  await mounter.idle()
  mark('end-' + name)
  seen.mounts.push(lines().length)
}
await round('warm', () => undefined)
await round('own', (i) => mapping(i + 1))
await stack.close()
seen.fds.push(links().length)
seen.trees = links().filter((link) => link.startsWith('${dir}') || link === '/' || lowerdir.includes(link))
console.log(JSON.stringify(seen))
await mounter.close()
`

t.test('a hundred containers', all(privileged, programs('strace')), async (t) => {
  const area = scratch(t)
  const { status, stdout, stderr, calls } = await straceModule(script(area.layers(LAYERS), area.mkdir('c')))
  t.equal(status, 0, stderr)
  const mountCalls = (from: string, to: string) =>
    tally(between(calls, from, to).filter(({ name }) => mountCall.test(name)))
  const warm = { fsopen: CONTAINERS, fsmount: CONTAINERS, move_mount: CONTAINERS }
  t.same(mountCalls('begin-warm', 'mounted-warm'), warm, 'no open_tree, no mount, no umount2')
  t.same(mountCalls('mounted-warm', 'collected-warm'), {}, 'and nothing later')
  t.same(mountCalls('collected-warm', 'end-warm'), { umount2: CONTAINERS })

  const own = { ...warm, open_tree_attr: CONTAINERS }
  const { move_mount: moved, mount_setattr: isolated, ...made } = mountCalls('begin-own', 'collected-own')
  t.same({ ...made, move_mount: CONTAINERS }, own, 'one tree more for each')
  t.ok((moved ?? 0) <= 2 * CONTAINERS, `${moved} move_mount: used trees are hung up to be closed together`)
  t.ok((isolated ?? 0) < CONTAINERS, `${isolated} mount_setattr: those that others are hung on are private`)
  t.same(mountCalls('collected-own', 'end-own'), { umount2: CONTAINERS })

  const seen: Seen = JSON.parse(stdout)
  const [base] = seen.mounts
  t.same(seen.mounts, [base, Number(base) + CONTAINERS, base, Number(base) + CONTAINERS, base])
  t.same(seen.strangers, [], 'mountinfo shows the targets and nothing else')
  t.equal(seen.fds[1], seen.fds[0], 'as many fds as before')
  t.same(seen.trees, [], 'no tree is open')
})
