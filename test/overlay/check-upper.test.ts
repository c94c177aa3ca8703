/**
 * `checkUpper`: an upper or work directory that somebody else has in use is refused before anything is made; one that
 * is free, or that this process is still taking down, is not. Who has it here is mount(8), which knows no claims.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { explain, LayerStack, MountError, Mounter, type OverlayMountOptions } from '../../lib/index.js'
import { isBusy, planCheckUpper } from '../../lib/overlay/check-upper.js'
import { dist, run } from '../support/child.js'
import { all, privileged, programs } from '../support/needs.js'
import { type Way, ways } from '../support/rungs.js'
import { type Container, type Scratch, scratch } from '../support/scratch.js'
import { straceModule } from '../support/strace.js'
import { mapping } from '../support/userns.js'
import { kernels } from './kernels.js'

const sh = (...args: string[]) =>
  execFileSync(args[0]!, args.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
const dirs = { upperdir: Buffer.from('/c/upper'), workdir: Buffer.from('/c/work') }

t.test('the plan', async (t) => {
  const text = String(planCheckUpper({ ...dirs, create: false }, kernels['6.18']))
  const lines = text.split('\n').map((line) => line.trim())
  t.same(lines, [
    'check upper: 20 system calls, 0 namespace_sem writes, 2 grace periods, 0 temporary mounts',
    'openat(AT_FDCWD, "/c/upper", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, 0) = upper',
    'claim(upper, statx)',
    'openat(AT_FDCWD, "/c/work", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, 0) = work',
    'claim(work, statx)',
    ...['upper', 'work'].flatMap((dir) => [
      'fsopen("overlay", FSOPEN_CLOEXEC) = fs',
      'fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir", "/proc", 0)',
      `fsconfig(fs, FSCONFIG_SET_FD, "upperdir", NULL, ${dir})`,
      'fsconfig(fs, FSCONFIG_SET_STRING, "workdir", "/proc", 0)',
      'fsconfig(fs, FSCONFIG_SET_STRING, "index", "on", 0)',
      'fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)',
    ]),
    ...['close(fs)', 'close(fs)', 'close(work)', 'close(upper)'],
  ])
  const classic = String(planCheckUpper({ ...dirs, create: true }, kernels['4.19']))
  t.match(
    classic,
    'mount("overlay", "/", "overlay", 0, "lowerdir=/proc,workdir=/proc,index=on,upperdir=/proc/self/fd/{upper}")',
  )
  t.match(classic, 'check upper: 8 system calls, 0 namespace_sem writes, 2 grace periods')
})

t.test('which directory may be missing, and what is not tried then', async (t) => {
  for (const create of [false, true]) {
    const { steps } = planCheckUpper({ ...dirs, create }, kernels['6.18'])
    const opened = steps.filter(({ call }) => call === 'openat')
    for (const { tolerate } of opened) t.same(tolerate, create ? [2] : undefined, 'ENOENT')
    for (const step of steps.filter(({ call }) => call === 'fsconfig')) t.ok(opened.includes(step.ifDone!))
  }
})

t.test('whose EBUSY is asked about', async (t) => {
  const refused = (errno: number, syscall: string) => new MountError({ errno, syscall, call: `${syscall}()` })
  for (const syscall of ['mount', 'fsconfig']) {
    t.ok(isBusy(refused(16, syscall)))
    t.notOk(isBusy(refused(22, syscall)))
  }
  for (const syscall of ['claim', 'move_mount', 'umount2']) t.notOk(isBusy(refused(16, syscall)), syscall)
  t.notOk(isBusy(Object.assign(new Error(), { code: 'EBUSY', syscall: 'mount' })))
})

t.test('explain shows it before the mount', async (t) => {
  const options = { lowerdir: ['/l/1', '/l/2'], upperdir: '/c/upper', workdir: '/c/work', target: '/t' }
  const titles = (checkUpper: boolean) =>
    explain({ ...options, checkUpper }, { features: kernels['6.18'] }).plans.map(({ title }) => title)
  t.same(titles(true), ['open layers', 'check upper', 'direct', 'discard'])
  t.same(titles(false), ['open layers', 'direct', 'discard'])
})

t.test('options that this kernel does not know come first', privileged, async (t) => {
  const { mounter, options, foreign } = given(t, ways.find(({ rung }) => rung === 'direct')!)
  const at = foreign()
  const unknown = mounter.mount({ ...options, options: { context: 'a:b:c:d' } })
  await t.rejects(unknown, { code: 'ERR_OVERLAYFD_UNSUPPORTED', message: 'options.context needs SELinux' })
  sh('umount', '-n', at)
})

t.test('so does a rung that cannot mount it', privileged, async (t) => {
  const { mounter, options, foreign } = given(t, ways.find(({ rung }) => rung === 'direct')!)
  const at = foreign()
  const { lowerdir, ...rest } = options
  const stack = await LayerStack.open({ lowerdir }, { mounter })
  await t.rejects(stack.mount({ ...rest, idmap: mapping() }), { code: 'ERR_OVERLAYFD_RUNG' })
  await stack.close()
  sh('umount', '-n', at)
})

t.test('wrong', async (t) => {
  const plan = (rest: object) => explain({ lowerdir: ['/l/1', '/l/2'], ...rest } as OverlayMountOptions)
  const needs = { code: 'ERR_INVALID_ARG_VALUE', message: '"options.checkUpper" argument needs an upperdir' }
  t.throws(() => plan({ checkUpper: true }), needs)
  t.throws(() => plan({ checkUpper: 'yes' }), { code: 'ERR_INVALID_ARG_TYPE', message: 'options.checkUpper' })
  t.ok(plan({ checkUpper: false }))
})

interface Given {
  readonly area: Scratch
  readonly mounter: Mounter
  readonly options: OverlayMountOptions & Container
  /** mounts an overlay on the same directories, as another process */
  readonly foreign: (over?: Partial<Container>) => string
}

const given = (t: Test, { rung, idmap }: Way): Given => {
  const area = scratch(t)
  const mounter = new Mounter({ rung, threads: 1 })
  t.teardown(() => mounter.close())
  const at = area.container('c')
  const options = { lowerdir: area.layers(2), ...at, idmap, checkUpper: true }
  const foreign = (over = {}) => {
    const { upperdir, workdir } = { ...at, ...over }
    const target = area.mkdir('foreign')
    const data = `lowerdir=${options.lowerdir[1]},upperdir=${upperdir},workdir=${workdir}`
    sh('mount', '-n', '-t', 'overlay', '-o', data, 'overlayfd-test', target)
    return target
  }
  return { area, mounter, options, foreign }
}

const failure = async (call: Promise<unknown>): Promise<MountError> => {
  const error = await call.then(
    () => new Error('it was mounted'),
    (thrown: unknown) => thrown,
  )
  if (error instanceof MountError) return error
  throw error
}

for (const way of ways) {
  t.test(`an overlay of somebody else: ${way.rung}`, privileged, async (t) => {
    const { area, mounter, options, foreign } = given(t, way)
    const at = foreign()
    const target = area.path('new')
    const other = area.container('other')
    for (const [option, over] of [
      ['upperdir', {}],
      ['upperdir', { workdir: other.workdir }],
      ['workdir', { upperdir: other.upperdir }],
    ] as const) {
      for (const create of [false, true]) {
        const asked = { ...options, ...over, create, ...(create ? { target } : {}) }
        const error = await failure(mounter.mount(asked))
        t.match(error, {
          code: 'EBUSY',
          path: asked[option],
          hint: `${option} is in use by an overlay of another`,
        })
        t.throws(() => mounter.mountSync(asked), { code: 'EBUSY' })
      }
    }
    t.notOk(existsSync(target), 'nothing was made')
    t.same(readdirSync(other.upperdir), [])
    t.same(readdirSync(other.workdir), [], 'not even in the work directory')
    sh('umount', '-n', at)
    const rootfs = await mounter.mount(options)
    t.ok(existsSync(join(rootfs.path, 'only-1')), 'and then it is free')
    await rootfs.unmount()
  })

  t.test(`unmounted lazily, with an open file: ${way.rung}`, privileged, async (t) => {
    const { mounter, options } = given(t, way)
    const first = await mounter.mount(options)
    const fd = openSync(join(first.path, 'only-1'), 'r')
    await first.unmount()
    t.match(await failure(mounter.mount(options)), { code: 'EBUSY', hint: /^upperdir is in use/ })
    closeSync(fd)
    await (await mounter.mount(options)).unmount()
  })

  t.test(`what this process has, and is taking down: ${way.rung}`, privileged, async (t) => {
    const { area, mounter, options } = given(t, way)
    const first = await mounter.mount(options)
    const error = await failure(mounter.mount({ ...options, target: area.mkdir('second') }))
    t.match(error, { code: 'EBUSY', hint: `this upperdir is in use by the overlay at ${first.path}` })
    await first.unmount()
    for (let i = 0; i < 20; i++) {
      const rootfs = await mounter.mount(options)
      await rootfs.unmount()
    }
    t.pass('a teardown behind an unmount is waited for')
  })

  t.test(`create makes what is missing, which is not in use: ${way.rung}`, privileged, async (t) => {
    const { area, mounter, options } = given(t, way)
    const fresh = { upperdir: area.path('a/u'), workdir: area.path('a/w'), target: area.path('a/t') }
    const missing = await failure(mounter.mount({ ...options, ...fresh }))
    t.match(missing, { code: 'ENOENT', hint: /^upperdir \(".*"\) does not exist$/ })
    await (await mounter.mount({ ...options, ...fresh, create: true })).unmount()
  })

  t.test(`EBUSY of the kernel says which: ${way.rung}`, privileged, async (t) => {
    const { area, mounter, options, foreign } = given(t, way)
    const at = foreign()
    const other = area.container('other')
    const asked = { ...options, checkUpper: false, options: { index: 'on' as const } }
    // the call that failed is the mount's own, by whatever call it was asked afterwards
    const syscall = /classic/.test(way.rung) ? 'mount' : 'fsconfig'
    const refused = { code: 'EBUSY', syscall, rung: way.rung }
    const upper = await failure(mounter.mount({ ...asked, workdir: other.workdir }))
    const path = asked.upperdir
    t.match(upper, { ...refused, path, hint: /^upperdir is in use by an overlay of another/ })
    const work = await failure(mounter.mount({ ...asked, upperdir: other.upperdir }))
    t.match(work, { ...refused, path: asked.workdir, hint: /^workdir is in use by an overlay of another/ })

    const lowerdir = [asked.upperdir, asked.lowerdir[0]!]
    const lower = await failure(mounter.mount({ ...asked, ...other, lowerdir }))
    t.match(lower, refused)
    t.notMatch(lower.hint, /in use by an overlay of another process/, 'neither of the two')

    sh('mount', '-n', '-o', 'remount,bind,ro', '/proc')
    t.teardown(() => sh('mount', '-n', '-o', 'remount,bind,rw', '/proc'))
    const unknown = await failure(mounter.mount({ ...asked, workdir: other.workdir }))
    t.match(unknown, refused, 'what failed first is said, where the kernel cannot be asked')
    t.notMatch(unknown.hint, /checkUpper/)
    sh('umount', '-n', at)
  })

  t.test(`unmounted by somebody else: ${way.rung}`, privileged, async (t) => {
    const { area, mounter, options } = given(t, way)
    const target = area.mkdir('target')
    const first = await mounter.mount({ ...options, target })
    sh('umount', '-n', target)
    await (await mounter.mount(options)).unmount()
    first.release()
  })
}

t.test('/proc has to be writable', privileged, async (t) => {
  const { mounter, options } = given(t, ways.find(({ rung }) => rung === 'direct')!)
  sh('mount', '-n', '-o', 'remount,bind,ro', '/proc')
  t.teardown(() => sh('mount', '-n', '-o', 'remount,bind,rw', '/proc'))
  const error = await failure(mounter.mount(options))
  t.match(error, {
    code: 'EINVAL',
    syscall: 'fsconfig',
    hint: 'checkUpper needs /proc to be mounted writable',
  })
})

t.test('inside a user namespace', privileged, async (t) => {
  const lowerdir = scratch(t).layers(2)
  const text = `
import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { Mounter } from ${JSON.stringify(dist('index.js'))}
execFileSync('mount', ['-n', '-t', 'tmpfs', 'overlayfd-test', '/mnt'])
const [upperdir, workdir, target, other] = ['u', 'w', 't', 'o'].map((name) => '/mnt/' + name)
for (const dir of [upperdir, workdir, target, other]) mkdirSync(dir)
const mounter = new Mounter({ threads: 1 })
const options = { lowerdir: ${JSON.stringify(lowerdir)}, upperdir, workdir, target, checkUpper: true }
await (await mounter.mount(options)).unmount({ wait: 'teardown' })
const data = 'userxattr,lowerdir=' + options.lowerdir[0] + ',upperdir=' + upperdir + ',workdir=' + workdir
execFileSync('mount', ['-n', '-t', 'overlay', '-o', data, 'overlayfd-test', other])
const error = await mounter.mount(options).catch((error) => error)
console.log(error.code, error.hint)
await mounter.close()`
  const args = ['-rmpf', '--mount-proc', process.execPath, '--input-type=module', '--eval', text]
  const { status, stdout, stderr } = await run('unshare', args)
  t.equal(status, 0, stderr)
  t.match(stdout, /^EBUSY upperdir is in use by an overlay of another process/)
})

/** A kernel without fsopen(2): what it can be asked by mount(2), and what it can not. */
const old = (options: object, then: string) => `
import { Mounter } from ${JSON.stringify(dist('index.js'))}
const mounter = new Mounter({ threads: 1 })
const error = await mounter.mount(${JSON.stringify(options)}).then(async (rootfs) => {
  ${then}
  await rootfs.unmount()
}, (error) => error)
console.log(JSON.stringify(error && { code: error.code, hint: error.hint, syscall: error.syscall }))
await mounter.close()`

t.test('without fsopen(2)', all(privileged, programs('strace')), async (t) => {
  const { area, options, foreign } = given(t, { rung: 'classic', idmap: undefined, shift: 0 })
  const under = async (inject: string[], over: object, then = '') => {
    const strace = ['fsopen:error=ENOSYS', ...inject].map((each) => `--inject=${each}`)
    const traced = await straceModule(old({ ...options, ...over }, then), { trace: 'fsopen,mount', strace })
    t.equal(traced.status, 0, traced.stderr)
    return {
      said: traced.stdout.trim().split('\n'),
      tries: traced.calls.filter(({ name }) => name === 'mount'),
    }
  }
  const free = await under([], { options: { index: 'off' } }, 'console.log(rootfs.rung, rootfs.notes.join())')
  t.match(
    free.said[0],
    /^classic .*whether this kernel's overlay knows the options cannot be told before the mount/,
  )
  t.equal(free.tries.length, 3, 'two that are refused, and the mount')
  const unknown = await under(['mount:error=EINVAL:when=3+'], { options: { index: 'off', xino: 'on' } })
  t.match(JSON.parse(unknown.said[0] ?? ''), {
    code: 'EINVAL',
    hint: "perhaps this kernel's overlay does not know one of options.index: 'off', options.xino: 'on'",
  })
  const at = foreign({ workdir: area.mkdir('foreign-work') })
  const busy = await under([], {})
  t.match(JSON.parse(busy.said[0] ?? ''), { code: 'EBUSY', syscall: 'mount', hint: /^upperdir is in use/ })
  sh('umount', '-n', at)
})
