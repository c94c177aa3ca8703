/**
 * Causes that lie in mounts, namespaces and names, which the kernel answers with the same EINVAL as all others:
 * a mount of another namespace, one that is gone or unbindable, a user namespace that is none. Each hint names
 * what is at fault, not what is next to it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type IdmapOption, MountError, Mounter, type MounterOptions } from '../lib/index.js'
import { names, sh } from './support/causes/row.js'
import { dist, run } from './support/child.js'
import { privileged } from './support/needs.js'
import { type Way, ways } from './support/rungs.js'
import { type Scratch, scratch } from './support/scratch.js'
import { mapping } from './support/userns.js'

const mounterOf = (t: Test, options: MounterOptions): Mounter => {
  const mounter = new Mounter(options)
  t.teardown(() => mounter.close())
  return mounter
}

const failure = async (t: Test, call: Promise<unknown>): Promise<MountError> => {
  const error = await call.then(
    () => t.fail('it went well'),
    (thrown: unknown) => thrown,
  )
  t.ok(error instanceof MountError, String(error))
  return error as MountError
}

const onEachWay = (
  name: string,
  body: (t: Test, area: Scratch, way: Way, mounter: Mounter) => Promise<void>,
) => {
  for (const way of ways) {
    t.test(`${name}: ${way.rung}`, privileged, async (t) =>
      body(t, scratch(t), way, mounterOf(t, { rung: way.rung })),
    )
  }
}

/** A process in namespaces of its own, which unshare(1) makes. */
const processIn = async (t: Test, ...args: string[]): Promise<number> => {
  const child = spawn('unshare', [...args, 'sh', '-c', 'echo; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.teardown(async () => {
    child.stdin.end()
    await once(child, 'close')
  })
  await once(child.stdout, 'data')
  return child.pid as number
}

const opened = (t: Test, path: string): number => {
  const fd = openSync(path, 'r')
  t.teardown(() => closeSync(fd))
  return fd
}

const elsewhere = 'is not in this mount namespace: it belongs to another one, or was unmounted lazily'

onEachWay('a layer of another mount namespace', async (t, area, { idmap }, mounter) => {
  const lowerdir = area.layers(2)
  const at = area.container('c')
  const pid = await processIn(t, '-m', '--propagation', 'private')
  const there = (path: string) => `/proc/${pid}/root${path}`
  const error = await failure(t, mounter.mount({ lowerdir: lowerdir.map(there), ...at, idmap }))
  t.match(error, { code: 'EINVAL', hint: /^the mount of lowerdir\[0\] \("\/proc\/\d+\/root/ })
  t.ok(error.hint?.endsWith(elsewhere), String(error.hint))
  const one = await failure(t, mounter.mount({ lowerdir: [there(lowerdir[0]!)], target: at.target, idmap }))
  t.ok(one.hint?.startsWith('the mount of lowerdir[0]') && one.hint.endsWith(elsewhere), String(one.hint))
  const target = await failure(t, mounter.mount({ lowerdir, ...at, target: there(at.target), idmap }))
  t.equal(target.hint, `the mount of target ("${there(at.target)}") ${elsewhere}`)
  if (idmap === undefined) {
    const upper = { ...at, upperdir: there(at.upperdir), workdir: there(at.workdir) }
    const { hint } = await failure(t, mounter.mount({ lowerdir, ...upper }))
    t.equal(hint, `the mount of upperdir ("${upper.upperdir}") ${elsewhere}`)
  }
})

t.test('an attach to another mount namespace', privileged, async (t) => {
  const area = scratch(t)
  const { target } = area.container('c')
  const pid = await processIn(t, '-m', '--propagation', 'private')
  const rootfs = await mounterOf(t, {}).mount({ lowerdir: area.layers(2) })
  const { hint } = await failure(t, rootfs.attach(`/proc/${pid}/root${target}`))
  t.equal(hint, `the mount of target ("/proc/${pid}/root${target}") ${elsewhere}`)
  await rootfs.unmount()
})

onEachWay('a layer whose mount was unmounted lazily', async (t, area, { idmap }, mounter) => {
  const gone = area.mkdir('gone')
  sh('mount', '-n', '-t', 'tmpfs', 'overlayfd-test', gone)
  const fds = area.layers(2, { base: gone }).map((path) => opened(t, path))
  sh('umount', '-n', '-l', gone)
  const error = await failure(t, mounter.mount({ lowerdir: fds, ...area.container('c'), idmap }))
  t.match(error, { hint: `the mount of lowerdir[0] ("fd ${fds[0]}") ${elsewhere}` })
})

t.test('the mount of a stack is unmounted lazily, and then another mapping comes', privileged, async (t) => {
  const area = scratch(t)
  const gone = area.mkdir('gone')
  sh('mount', '-n', '-t', 'tmpfs', 'overlayfd-test', gone)
  const mounter = mounterOf(t, {})
  const stack = await mounter.open({ lowerdir: area.layers(2, { base: gone }), idmap: mapping() })
  sh('umount', '-n', '-l', gone)
  const error = await failure(t, stack.mount({ ...area.container('c'), idmap: mapping(300_000) }))
  t.match(error, { code: 'EINVAL', syscall: 'open_tree_attr', hint: elsewhere })
  await stack.close()
})

onEachWay('an unbindable mount', async (t, area, { idmap }, mounter) => {
  const dir = area.mkdir('unbindable')
  sh('mount', '-n', '-t', 'tmpfs', 'overlayfd-test', dir)
  sh('mount', '-n', '--make-unbindable', dir)
  const lowerdir = area.layers(2, { base: dir })
  const at = area.container('c')
  const error = await failure(t, mounter.mount({ lowerdir, ...at, idmap }))
  t.match(error, { code: 'EINVAL', hint: /^the mount of lowerdir\[0\] \(".*"\) is unbindable$/ })
  const one = await failure(t, mounter.mount({ lowerdir: [lowerdir[1]!], target: at.target, idmap }))
  t.equal(one.hint, `the mount of lowerdir[0] ("${lowerdir[1]}") is unbindable`)
  const unbindable = area.container('c', dir)
  const upper = { ...unbindable, target: at.target, upper: idmap ? 'idmapped' : 'asis' } as const
  const { hint } = await failure(t, mounter.mount({ lowerdir: area.layers(2), ...upper, idmap }))
  t.match(hint, /^the mount of upperdir \(".*"\) is unbindable$/)
  // what a failed call had open is closed a moment later
  await mounter.trim()
  sh('umount', '-n', dir)
})

t.test('a user namespace that is none, or has no mapping', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const mounter = mounterOf(t, {})
  const pid = await processIn(t, '-U')
  const net = opened(t, '/proc/self/ns/net')
  const bare = opened(t, `/proc/${pid}/ns/user`)
  const file = area.path('file')
  writeFileSync(file, '')
  const bound = area.path('bound')
  writeFileSync(bound, '')
  sh('mount', '-n', '--bind', '/proc/self/ns/ipc', bound)
  t.teardown(() => sh('umount', '-n', bound))
  const user = area.path('user')
  writeFileSync(user, '')
  sh('mount', '-n', '--bind', `/proc/${pid}/ns/user`, user)
  t.teardown(() => sh('umount', '-n', user))
  const table: [string | number, string | RegExp][] = [
    [user, /does not support idmapped mounts, or the user namespace idmap\.userns \(".*\/user"\) has no mapping$/],
    [file, `idmap.userns ("${file}") is not a user namespace but a file`],
    ['/proc/self/ns/mnt', /^idmap\.userns \("\/proc\/self\/ns\/mnt"\) is not a user namespace but mnt:\[\d+\]$/],
    [bound, /^idmap\.userns \(".*\/bound"\) is not a user namespace but ipc:\[\d+\]$/],
    [net, new RegExp(`^idmap\\.userns \\("fd ${net}"\\) is not a user namespace but net:\\[\\d+\\]$`)],
    [`/proc/${pid}/ns/user`, `the user namespace idmap.userns ("/proc/${pid}/ns/user") has no mapping: its uid_map and gid_map are still empty`],
    [bare, new RegExp(`does not support idmapped mounts, or the user namespace idmap\\.userns \\("fd ${bare}"\\) has no mapping$`)],
  ] // biome-ignore format: a table
  for (const [userns, hint] of table) {
    const idmap: IdmapOption = { userns }
    const error = await failure(t, mounter.mount({ lowerdir, ...area.container('c'), idmap }))
    t.match(error, { code: 'EINVAL', syscall: 'open_tree_attr', hint })
    const stack = await mounter.open({ lowerdir })
    t.match(await failure(t, stack.mount({ ...area.container('c'), idmap })), { hint }, 'of a mount')
    await stack.close()
  }
})

t.test('a layer that goes while the stack works by name', privileged, async (t) => {
  const area = scratch(t)
  const mounter = mounterOf(t, { maxLayerFds: 0 })
  for (const idmap of [mapping(), undefined]) {
    const lowerdir = area.layers(3, { below: `of-${idmap === undefined}` })
    const stack = await mounter.open({ lowerdir, idmap })
    const above = join(lowerdir[1]!, '..')
    renameSync(above, `${above}-renamed`)
    t.match(await failure(t, stack.mount({})), {
      code: 'ENOENT',
      syscall: idmap ? 'statx' : 'openat2',
      hint: `lowerdir[1] ("${lowerdir[1]}") does not exist`,
    })
    writeFileSync(above, '')
    t.match(await failure(t, stack.mount({})), {
      code: 'ENOTDIR',
      hint: `lowerdir[1] ("${lowerdir[1]}"), or something above it, is not a directory`,
    })
    rmSync(above)
    await stack.close()
  }
})

t.test('an idmapped upper behind a symbolic link, or beside work on another mount', privileged, async (t) => {
  const area = scratch(t)
  const at = area.container('c')
  const upperdir = area.path('link')
  symlinkSync(at.upperdir, upperdir)
  const options = { lowerdir: area.layers(2), ...at, idmap: mapping(), upper: 'idmapped' } as const
  const mounter = mounterOf(t, {})
  t.match(await failure(t, mounter.mount({ ...options, upperdir })), {
    code: 'ELOOP',
    syscall: 'openat2',
    hint: `a symbolic link is in upperdir ("${upperdir}"), where none is followed: give the real path`,
  })
  const other = area.mkdir('other')
  sh('mount', '-n', '-t', 'tmpfs', 'overlayfd-test', other)
  mkdirSync(join(other, 'upper'))
  t.match(await failure(t, mounter.mount({ ...options, upperdir: join(other, 'upper') })), {
    code: 'ENOENT',
    hint: 'workdir and upperdir are on different mounts',
  })
  sh('umount', '-n', other)
})

onEachWay('names that are too long', async (t, area, { idmap }, mounter) => {
  const lowerdir = area.layers(2)
  const at = area.container('c')
  for (const long of [`/${'x'.repeat(301)}`, `/${'y'.repeat(200)}`.repeat(30)]) {
    const wanted = (option: string, path: string) =>
      `${option} is a path of ${path.length} bytes: the kernel takes at most 4095, and 255 for each name in it`
    const upperdir = `${area.dir}${long}`
    const table: [object, string][] = [
      [{ lowerdir: [lowerdir[0]!, long] }, wanted('lowerdir[1]', long)],
      [{ target: long }, wanted('target', long)],
      [{ upperdir, workdir: `${upperdir}w`, create: true }, wanted('upperdir', upperdir)],
    ]
    const before = names(area)
    for (const [options, hint] of table) {
      const error = await failure(t, mounter.mount({ lowerdir, ...at, idmap, ...options }))
      t.match(error, { code: 'ENAMETOOLONG', hint })
      t.match(error.call, /"\/[^"]{299}"\.\.\./, 'the path is cut')
      t.ok(error.message.length < 700, `${error.message.length} characters`)
      t.ok((error.path?.length ?? 0) > 300, 'the field has it whole')
    }
    t.same(names(area), before)
  }
})

t.test('no /proc', privileged, async (t) => {
  const area = scratch(t)
  const code = `
    import { Mounter } from ${JSON.stringify(dist('index.js'))}
    const mount = async (rung, idmap) => {
      const options = { lowerdir: ${JSON.stringify(area.layers(2))}, target: '${area.container('c').target}', idmap }
      const { code, syscall, hint } = await new Mounter({ rung }).mount(options).catch((error) => error)
      console.log(JSON.stringify({ code, syscall, hint }))
    }
    await mount('classic')
    await mount('detached-tree', { userns: 0 })`
  const command = 'mount --make-rprivate / && mount -n -t tmpfs overlayfd-test /proc && exec "$@"'
  const args = ['-m', 'sh', '-ec', command, 'sh', process.execPath, '--input-type=module', '--eval', code]
  const { stdout, stderr } = await run('unshare', args)
  t.equal(stderr, '')
  const hint = 'fds are named through /proc, which is not mounted here'
  const lines = stdout.trim().split('\n')
  t.same(JSON.parse(lines[0]!), { code: 'ENOENT', syscall: 'chdir', hint })
  t.same(JSON.parse(lines[1]!), { code: 'ENOENT', syscall: 'openat', hint })
})

onEachWay('an unmount below a mount that covers a directory above', async (t, area, { idmap }, mounter) => {
  const rootfs = await mounter.mount({ lowerdir: area.layers(2), ...area.container('c'), idmap })
  const above = area.path('containers')
  sh('mount', '-n', '-t', 'tmpfs', 'overlayfd-test', above)
  const gone =
    'the target cannot be reached any more: a mount covers a directory above it, or it was renamed, or deleted and the mount with it'
  t.match(await failure(t, rootfs.unmount()), { code: 'ENOENT', hint: gone })
  mkdirSync(rootfs.path, { recursive: true })
  t.match(await failure(t, rootfs.unmount()), {
    code: 'EINVAL',
    hint: /or a mount covers a directory above it$/,
  })
  sh('umount', '-n', above)
  await rootfs.unmount()
})
