/**
 * Causes that take other limits, other rights, or a kernel that fails: each in a child of its own, with a
 * user namespace, a low ulimit, a plain user's ids, or faults that strace injects. The error names the cause, and
 * nothing is left: no fd, no mount, no directory that was made.
 */
import { writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { dist, type Ended, run } from './support/child.js'
import { all, privileged, programs } from './support/needs.js'
import { type Scratch, scratch } from './support/scratch.js'
import { straceModule } from './support/strace.js'
import { mapping, userNamespace } from './support/userns.js'

interface Seen {
  name: string
  code: string
  syscall?: string
  rung?: string
  hint?: string
  message: string
  fds: number
  mounts: number
  made: string[]
}

/** Mounts with `options` and prints the error, and what is left; then runs `after`. */
const script = (options: string, { rung = 'auto', before = '', after = '' } = {}) => `
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { Mounter } from ${JSON.stringify(dist('index.js'))}
const fds = () => readdirSync('/proc/self/fd').length
const mounts = () => readFileSync('/proc/self/mountinfo', 'utf8').split('\\n').length
const mapping = (outside, length = 65536) => {
  const range = [{ inside: 0, outside, length }]
  return { uid: range, gid: range }
}
${before}
const mounter = new Mounter({ rung: '${rung}', threads: 1 })
const options = ${options}
// what is made at the first use of anything is there before, and the one thread has made its first calls
const of = (key) => (options[key] ? { [key]: options[key] + '-first' } : {})
await mounter
  .mount({ ...options, ...of('upperdir'), ...of('workdir'), ...of('target') })
  .then((rootfs) => rootfs.unmount(), () => {})
await mounter.trim()
const had = [fds(), mounts()]
const { name, code, syscall, rung, hint, message } = await mounter.mount(options).then(
  (rootfs) => ({ name: 'mounted', message: rootfs.path }), (error) => error)
await mounter.trim()
const made = ['upperdir', 'workdir', 'target'].filter((key) => options.create && existsSync(options[key]))
console.log(JSON.stringify({ name, code, syscall, rung, hint, message, fds: fds() - had[0], mounts: mounts() - had[1], made }))
${after}
await mounter.close()
`

const check = (
  t: Test,
  { status, stdout, stderr }: Pick<Ended, 'status' | 'stdout' | 'stderr'>,
  wanted: object,
) => {
  t.equal(status, 0, stderr)
  const seen: Seen = JSON.parse(stdout.split('\n')[0] ?? '')
  t.match(seen, { name: 'MountError', fds: 0, mounts: 0, made: [], ...wanted })
  if (seen.hint) t.ok(seen.message.includes(seen.hint))
}

const paths = (area: Scratch) => ({
  upperdir: area.path('new-upper'),
  workdir: area.path('new-work'),
  target: area.path('new-rootfs'),
})
const text = (area: Scratch, rest: string, count = 3) =>
  `{ lowerdir: ${JSON.stringify(area.layers(count))}, ...${JSON.stringify(paths(area))}, create: true, ${rest} }`

const faults = [
  [
    'move_mount:error=ENOSPC',
    'direct',
    '',
    {
      code: 'ENOSPC',
      syscall: 'move_mount',
      hint: /^the mount namespace, .*, is full \(fs.mount-max, \d+\)$/,
    },
  ],
  [
    'mount:error=ENOSPC',
    'classic',
    '',
    { code: 'ENOSPC', syscall: 'mount', hint: /^the mount namespace, .*, is full/ },
  ],
  // strace counts by thread: the first one is of the probe, and of the mount that goes well
  [
    'fsopen:error=ENODEV:when=2+',
    'direct',
    '',
    { code: 'ENODEV', syscall: 'fsopen', hint: /^this kernel has no overlay/ },
  ],
  [
    'fsmount:error=ENOMEM:when=2+',
    'detached-tree',
    'idmap: mapping(100000)',
    { code: 'ENOMEM', syscall: 'fsmount', hint: undefined },
  ],
  [
    'mkdirat:error=EROFS',
    'direct',
    '',
    { code: 'EROFS', syscall: 'mkdirat', hint: /^the file system of upperdir \(".*"\) is read-only$/ },
  ],
  [
    'mkdirat:error=EDQUOT',
    'direct',
    '',
    { code: 'EDQUOT', syscall: 'mkdirat', hint: 'a disk quota that upperdir counts for is used up' },
  ],
  [
    'fchownat:error=EPERM',
    'direct',
    '',
    { code: 'EPERM', syscall: 'fchownat', hint: /^no permission for upperdir \("/ },
  ],
  ['fstatfs:error=EIO', 'direct', '', { code: 'EIO', syscall: 'fstatfs' }],
  ['fstatfs:error=EIO', 'classic', '', { code: 'EIO', syscall: 'fstatfs' }],
  [
    'mount_setattr:error=ENOMEM:when=2+',
    'direct',
    "propagation: 'slave'",
    { code: 'ENOMEM', syscall: 'mount_setattr' },
  ],
] as const

for (const [fault, rung, rest, wanted] of faults) {
  t.test(`fault ${fault}: ${rung}`, all(privileged, programs('strace')), async (t) => {
    const area = scratch(t)
    const [name] = fault.split(':')
    const ended = await straceModule(script(text(area, rest), { rung }), {
      trace: name as string,
      strace: [`--inject=${fault}`],
    })
    check(t, ended, { ...wanted, rung })
  })
}

t.test('too many open files', privileged, async (t) => {
  const area = scratch(t)
  for (const [rung, rest] of [
    ['direct', ''],
    ['detached-tree', 'idmap: mapping(100000)'],
    ['classic', ''],
  ] as const) {
    const limited = [
      '-c',
      'ulimit -n 128 && exec "$@"',
      'sh',
      process.execPath,
      '--input-type=module',
      '--eval',
    ]
    const after = `const next = await mounter.mount({ ...options, lowerdir: options.lowerdir.slice(0, 10) })
      await next.unmount()`
    const ended = await run('sh', [...limited, script(text(area, rest, 200), { rung, after })])
    check(t, ended, { code: 'EMFILE', hint: /^too many open files in this process: .*ulimit -n/ })
  }
})

/** Runs a script as root of a user namespace, with mounts of its own. */
const inside = async (t: Test, area: Scratch, code: string, before: string) => {
  const child = await userNamespace(t, mapping(100_000, 200_000))
  const file = area.path('script.mjs')
  writeFileSync(file, code)
  const command = `unset NODE_OPTIONS; ${before}; exec '${process.execPath}' '${file}'`
  try {
    return { status: 0, stderr: '', stdout: child.sh(`unshare -m sh -ec "${command}"`) }
  } catch (error) {
    const { stderr, stdout } = error as { stderr: string; stdout: string }
    return { status: 1, stderr, stdout }
  }
}

t.test('the limit of user namespaces', privileged, async (t) => {
  const area = scratch(t)
  const own = area.mkdir('own')
  const before = `mount -t tmpfs tmpfs ${own}; mkdir -p ${own}/a ${own}/b; echo 0 > /proc/sys/user/max_user_namespaces`
  const options = `{ lowerdir: ['${own}/a', '${own}/b'], idmap: mapping(0, 1000) }`
  const hint = /^the limit of user namespaces is reached \(user.max_user_namespaces, 0\)$/
  const ended = await inside(t, area, script(options), before)
  check(t, ended, { code: 'ENOSPC', syscall: 'userns', rung: 'detached-tree', hint })
})

t.test('in a user namespace: others’ file systems, and ids that it does not have', privileged, async (t) => {
  const area = scratch(t)
  const own = area.mkdir('own')
  const layers = area.layers(2)
  const before = `mount -t tmpfs tmpfs ${own}; mkdir -p ${own}/a ${own}/b`
  const foreign = await inside(
    t,
    area,
    script(`{ lowerdir: ${JSON.stringify(layers)}, idmap: mapping(0, 1000) }`),
    before,
  )
  check(t, foreign, {
    code: 'EPERM',
    syscall: 'open_tree_attr',
    hint: /^no CAP_SYS_ADMIN over the file system of /,
  })
  const ids = await inside(
    t,
    area,
    script(`{ lowerdir: ['${own}/a', '${own}/b'], idmap: mapping(500000, 10) }`),
    before,
  )
  check(t, ids, { syscall: 'userns', code: /^(EPERM|EINVAL)$/, hint: /mapping/ })
  const option = `{ lowerdir: ['${own}/a', '${own}/b'], options: { userxattr: false, verity: 'on' } }`
  check(t, await inside(t, area, script(option), before), {
    code: 'EPERM',
    syscall: 'fsconfig',
    hint: /options\.verity: 'on' is not allowed inside a user namespace/,
  })
})

t.test('a plain user may not mount', privileged, async (t) => {
  const area = scratch(t)
  const args = [
    '--reuid=65534',
    '--regid=65534',
    '--clear-groups',
    process.execPath,
    '--input-type=module',
    '--eval',
  ]
  const code = `
    import { explain, features, mountOverlay } from ${JSON.stringify(dist('index.js'))}
    const options = { lowerdir: ['/usr', '/etc'], target: '/mnt' }
    const { name, code, message } = await mountOverlay(options).then(() => ({ name: 'mounted' }), (error) => error)
    console.log(JSON.stringify({ name, code, message, mayMount: features().mayMount }))
    console.log(explain(options, { features: { ...features(), mayMount: true } }).rung)`
  const { status, stdout, stderr } = await run('setpriv', [...args, code])
  t.equal(status, 0, stderr)
  const [first, rung] = stdout.trim().split('\n') as [string, string]
  const message = /mayMount is missing \(EPERM: no CAP_SYS_ADMIN/
  t.match(JSON.parse(first), { name: 'RungError', code: 'ERR_OVERLAYFD_RUNG', mayMount: false, message })
  t.equal(rung, 'direct', 'explaining takes no right')
  t.ok(area.dir)
})
