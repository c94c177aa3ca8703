/**
 * Inside a container: each situation is really made (namespaces, locked mounts, dropped capabilities, filters, no
 * /proc), and there each request works on each rung, or ends in one error that says what is missing.
 */
import { writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import type { RungChoice } from '../lib/index.js'
import { dist, run } from './support/child.js'
import { all, privileged, programs } from './support/needs.js'
import { type Scratch, scratch } from './support/scratch.js'

const ids = [{ inside: 0, outside: 0, length: 1 }]
/** What is asked for; `DIR` is where the layers of the situation are, `OWN` is a tmpfs that was mounted inside, `N` the case. */
const requests = {
  plain: {
    lowerdir: ['DIR/a', 'DIR/b'],
    upperdir: 'OWN/N/upper',
    workdir: 'OWN/N/work',
    target: 'OWN/N/target',
    create: true,
  },
  idmap: { lowerdir: ['DIR/a', 'DIR/b'], idmap: { uid: ids, gid: ids }, target: 'OWN/rootfs' },
  clone: { lowerdir: ['DIR/a'], target: 'OWN/rootfs' },
} as const
type Request = keyof typeof requests

/** `a,b`: it works and shows the layers' files; else what the error says. */
type Expected = 'a' | 'a,b' | RegExp
type Case = readonly [Request, RungChoice, Expected]
const [yes, clone] = ['a,b', 'a'] as const

interface Situation {
  readonly name: string
  /** in the test's own mount namespace, with the layers in `$DIR` */
  readonly before?: string
  /** what puts a command into it */
  readonly enter: readonly string[]
  /** inside, before the program */
  readonly inside?: string
  /** layers on a tmpfs that was mounted inside */
  readonly ownLayers?: boolean
  readonly cases: readonly Case[]
}

const userns = ['unshare', '--user', '--map-root-user', '--mount']
const mountns = ['unshare', '--mount', '--propagation', 'private']
const strace = (...faults: string[]) => [
  ...['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'signal=none'],
  ...faults.flatMap((fault) => ['-e', `inject=${fault}`]),
]
const everything: readonly Case[] = [
  ['plain', 'auto', yes], ['plain', 'direct', yes], ['plain', 'classic', yes],
  ['idmap', 'auto', yes], ['idmap', 'detached-tree', yes],
  ['clone', 'auto', clone], ['clone', 'direct', clone], ['clone', 'classic', clone],
] // biome-ignore format: a table
const mayNot =
  /mayMount is missing \(EPERM: no CAP_SYS_ADMIN in the user namespace of this mount namespace\)$/
const notOurs = /mayMount is missing \(EPERM: CAP_SYS_ADMIN is there, but not in .* \(unshare it too\)/
const foreign =
  /no CAP_SYS_ADMIN over the file system of lowerdir\[0\] \(".*"\), which was not mounted in this user namespace\)$/
const locked =
  /below lowerdir\[0\] \(".*"\) is a mount that this user namespace cannot take away \(".*\/a\/locked"\)/
const noProc = /fds are named through \/proc, which is not mounted here\)$/
const noMaps = /a user namespace is made through \/proc, which is not mounted here\)$/

const situations: readonly Situation[] = [
  { name: 'a user namespace, its own tmpfs', enter: userns, ownLayers: true, cases: everything },
  {
    name: 'a user namespace, layers of the machine',
    enter: userns,
    cases: everything.map(([request, rung, expected]): Case => [
      request,
      rung,
      request === 'idmap' ? foreign : expected,
    ]),
  },
  {
    name: 'a user namespace in a user namespace, layers of the outer one',
    enter: [...userns, 'sh', '-ec', 'mount -t tmpfs t "$DIR"; mkdir "$DIR/a" "$DIR/b"; touch "$DIR/a/a" "$DIR/b/b"; exec unshare -Urm "$@"', 'sh'],
    cases: [['plain', 'auto', yes], ['plain', 'classic', yes], ['idmap', 'auto', foreign], ['clone', 'direct', clone]],
  },
  {
    name: 'a user namespace, a locked mount in a layer',
    before: 'mkdir "$DIR/a/locked"; mount -t tmpfs t "$DIR/a/locked"',
    enter: userns,
    cases: everything.map(([request, rung]): Case => [request, rung, locked]),
  },
  {
    name: 'a user namespace without CAP_SYS_ADMIN',
    enter: userns,
    inside: 'exec setpriv --bounding-set -sys_admin --inh-caps -sys_admin "$@"',
    cases: everything.map(([request, rung]): Case => [request, rung, mayNot]),
  },
  {
    name: 'a user namespace, the mount namespace of somebody else',
    enter: ['unshare', '--user', '--map-root-user'],
    inside: 'exec "$@"',
    cases: everything.map(([request, rung]): Case => [request, rung, notOurs]),
  },
  {
    name: 'read-only /sys, masked /proc',
    before: 'mount --bind /sys /sys; mount -o remount,bind,ro /sys',
    enter: userns,
    inside: 'mount -t tmpfs -o ro t /proc/sys; mount --bind /dev/null /proc/meminfo; mount -t tmpfs -o ro t /proc/fs; exec "$@"',
    ownLayers: true,
    cases: everything,
  },
  { name: 'no /sys', enter: userns, inside: 'mount -t tmpfs t /sys; exec "$@"', ownLayers: true, cases: everything },
  {
    name: 'a user namespace, no /proc',
    enter: userns,
    inside: 'mount -t tmpfs t /proc; exec "$@"',
    ownLayers: true,
    cases: [
      ['plain', 'direct', noProc], ['plain', 'auto', noProc], ['plain', 'classic', noProc],
      ['idmap', 'auto', noMaps], ['clone', 'auto', clone], ['clone', 'classic', noProc],
    ],
  },
  {
    name: 'a chroot without /proc',
    enter: mountns,
    inside:
      'mkdir "$DIR/root"; mount --rbind / "$DIR/root"; umount -l "$DIR/root/proc"; exec chroot "$DIR/root" "$@"',
    ownLayers: true,
    cases: [['plain', 'auto', noProc], ['idmap', 'auto', noMaps], ['clone', 'auto', clone], ['clone', 'classic', noProc]],
  },
  {
    name: 'a filter of fsopen (EPERM)',
    enter: [...strace('fsopen:error=EPERM'), ...userns],
    ownLayers: true,
    cases: [
      ['plain', 'auto', yes], ['plain', 'classic', yes], ['clone', 'auto', clone],
      ['plain', 'direct', /fsContext is missing \(EPERM: a filter \(seccomp\) refuses fsopen\)/],
      ['idmap', 'auto', /detached-tree: fsContext is missing \(EPERM: a filter \(seccomp\) refuses fsopen\)/],
    ],
  },
  {
    name: 'a filter of fsopen and mount (EPERM)',
    enter: userns,
    inside: `exec ${strace('fsopen:error=EPERM', 'mount:error=EPERM').join(' ')} "$@"`,
    ownLayers: true,
    cases: [['plain', 'auto', /^EPERM: .* mount\(.*or a filter \(seccomp\) or a security module refuses mount\)$/]],
  },
  {
    name: 'a filter of clone (EPERM)',
    enter: [...strace('clone:error=EPERM'), ...userns],
    ownLayers: true,
    cases: [['plain', 'auto', yes], ['idmap', 'auto', /^EPERM: .* userns\(.*may not make a user namespace with such a mapping/]],
  },
] // biome-ignore format: tables

const program = `
  import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
  import { mountOverlay, Mounter } from ${JSON.stringify(dist('index.js'))}
  const [own, dir, cases] = process.argv.slice(2)
  const paths = (text, i) => text.replaceAll('OWN', own).replaceAll('DIR', dir).replaceAll('/N/', '/' + i + '/')
  for (const [i, asked] of JSON.parse(cases).entries()) {
    const [options, rung] = JSON.parse(paths(JSON.stringify(asked), i))
    const mounter = new Mounter({ rung })
    let result
    try {
      const rootfs = await mounter.mount(options)
      const found = readdirSync(rootfs.path).join()
      if (options.upperdir) writeFileSync(rootfs.path + '/new', '')
      await rootfs.unmount()
      result = { found, rung: rootfs.rung, notes: rootfs.notes.join('; ') }
    } catch (error) {
      result = { name: error.name, message: error.message }
    }
    console.log(JSON.stringify(result))
    await mounter.close()
  }
`

const layersOf = (dir: string) => `mkdir -p "${dir}/a" "${dir}/b"; touch "${dir}/a/a" "${dir}/b/b"`

const attempt = async (
  t: Test,
  area: Scratch,
  { name, before, enter, inside, ownLayers, cases }: Situation,
) => {
  const [DIR, OWN] = [area.mkdir('layers'), area.mkdir('own')]
  const file = area.path('program.mjs')
  writeFileSync(file, program)
  const asked = JSON.stringify(cases.map(([request, rung]) => [requests[request], rung]))
  const mountOwn = `mount -t tmpfs t "$OWN"; mkdir "$OWN/rootfs"; ${layersOf('$OWN/layers')}`
  const isOurs = enter.includes('--mount')
  const script = `${isOurs ? `${mountOwn};` : ''} ${inside ?? 'exec "$@"'}`
  const node = [process.execPath, file, OWN, ownLayers ? `${OWN}/layers` : DIR, asked]
  const outer = `${layersOf('$DIR')}; ${before ?? ':'}; exec "$@"`
  const command = [...mountns, 'sh', '-ec', outer, 'sh', ...enter, 'sh', '-ec', script, 'sh', ...node]
  const { stdout, stderr } = await run(command[0]!, command.slice(1), { env: { DIR, OWN } })
  t.equal(stderr, '', name)
  const results = stdout.split('\n').filter((line) => line !== '')
  t.equal(results.length, cases.length, `${name}: each was tried`)
  for (const [i, [request, rung, expected]] of cases.entries()) {
    const { found, rung: taken, notes, message } = JSON.parse(results[i] ?? '{}') as Record<string, string>
    const title = `${name}: ${request}, ${rung}`
    if (typeof expected !== 'string') {
      t.match(message, expected, title)
      continue
    }
    t.equal(found ?? message, expected, title)
    if (rung !== 'auto') t.equal(taken, rung, title)
    if (request !== 'clone') t.match(notes, /options\.userxattr was added/, title)
  }
}

t.test(
  'why userxattr: without it overlay can keep no marks',
  all(privileged, programs('unshare', 'mount')),
  async (t) => {
    const area = scratch(t)
    const own = area.mkdir('own')
    const code = `
    import { mkdirSync, readdirSync, rmSync } from 'node:fs'
    import { LayerStack } from ${JSON.stringify(dist('index.js'))}
    const stack = await LayerStack.open({ lowerdir: ['${own}/a', '${own}/b'] })
    for (const userxattr of [undefined, false, true]) {
      const at = (name) => '${own}/' + userxattr + '/' + name
      const dirs = { upperdir: at('upper'), workdir: at('work'), target: at('rootfs'), create: true }
      const rootfs = await stack.mount({ ...dirs, options: { userxattr } })
      try {
        rmSync(rootfs.path + '/dir', { recursive: true })
        mkdirSync(rootfs.path + '/dir')
        console.log(userxattr, 'opaque:', readdirSync(rootfs.path + '/dir').length, rootfs.notes.length)
      } catch (error) {
        console.log(userxattr, error.code, rootfs.notes.join())
      }
      await rootfs.unmount()
    }
    await stack.close()`
    const before = `mount -t tmpfs t "${own}"; mkdir -p "${own}/a/dir" "${own}/b/dir"; touch "${own}/a/dir/x"; exec "$@"`
    const node = [process.execPath, '--input-type=module', '--eval', code]
    const [unshare, ...args] = [...userns, 'sh', '-ec', before, 'sh', ...node]
    const { stdout, stderr } = await run(unshare!, args)
    const [auto, off, on] = stdout.split('\n')
    t.equal(stderr, '')
    t.equal(auto, 'undefined opaque: 0 1')
    t.match(off, /^false EIO inside a user namespace with userxattr: false: .* is EIO$/)
    t.equal(on, 'true opaque: 0 0')
  },
)

const needs = all(privileged, programs('unshare', 'mount', 'setpriv', 'strace', 'chroot'))
for (const situation of situations) {
  t.test(situation.name, needs, async (t) => attempt(t, scratch(t), situation))
}
