/**
 * What goes wrong on the way to another mount namespace and back: a file system whose server does not answer, a thread
 * that cannot come home, a handle that nobody has any more, directories that change while they are used.
 */
import { execFileSync, spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { type MountError, Mounter, type NamespaceTarget } from '../../lib/index.js'
import { dist, run } from '../support/child.js'
import { type Container, startContainer, strays } from '../support/container.js'
import { settled } from '../support/counts.js'
import { mounts } from '../support/mountinfo.js'
import { all, privileged, programs } from '../support/needs.js'
import { scratch } from '../support/scratch.js'
import { straceModule } from '../support/strace.js'

const overlays = (container: Container) =>
  container
    .mounts()
    .filter(({ type }) => type === 'overlay')
    .map(({ target }) => String(target))
const inside = ({ pid }: Container, path: string): NamespaceTarget => ({ path, mountNamespace: { pid } })

const fuse = existsSync('/dev/fuse') ? {} : { skip: 'no /dev/fuse' }

t.test('a file system on the way whose server does not answer', all(privileged, fuse), async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  const mounter = new Mounter()
  const stack = await mounter.open({ lowerdir: area.layers(2) })
  // a server that takes no request: the file system waits for it, until the device is closed
  const server = openSync('/dev/fuse', 'r+')
  let isServed = true
  const dies = () => {
    if (isServed) closeSync(server)
    isServed = false
  }
  t.teardown(dies)
  container.sh('mkdir /stuck')
  const data = 'fd=3,rootmode=40000,user_id=0,group_id=0'
  const mount = ['mount', '-i', '-n', '-t', 'fuse', '-o', data, 'server', '/stuck']
  execFileSync('nsenter', [`--mount=${container.namespace}`, ...mount], {
    stdio: ['ignore', 'inherit', 'inherit', server],
  })
  const stuck = ['/stuck/a', '/stuck/b/c'].map((path) =>
    stack.mount({ target: inside(container, path) }).catch((error: MountError) => error),
  )
  let answers = 0
  for (const each of stuck) each.then(() => answers++)
  await settled(
    () => mounter.stats.visiting.running,
    (running) => running === stuck.length,
  )
  for (const target of [inside(container, '/rootfs'), area.mkdir('rootfs')]) {
    const rootfs = await stack.mount({ target })
    await rootfs.unmount({ wait: 'teardown' })
  }
  t.equal(answers, 0, 'they wait, and nobody else does')
  t.equal(mounter.stats.visiting.running, stuck.length)
  dies()
  for (const error of await Promise.all(stuck))
    t.match(error, { name: 'MountError', syscall: 'openat2', code: /^(ENOTCONN|ECONNABORTED)$/ })
  const late = stack.mount({ target: inside(container, '/stuck/a') })
  await t.rejects(late, { code: 'ENOTCONN', hint: /has no server any more/ })
  t.same(overlays(container), [])
  t.same(strays(), [])
  await stack.close()
  await mounter.close()
})

t.test(
  'a thread that cannot come back undoes nothing there',
  all(privileged, programs('strace')),
  async (t) => {
    const area = scratch(t)
    const container = await startContainer(t)
    const [upperdir, workdir] = [area.path('new/upper'), area.path('new/work')]
    // the same names on both sides, and a file where the rootfs would go
    container.sh(`mkdir -p ${upperdir} ${workdir}; touch /file`)
    mkdirSync(area.path('new'))
    const script = `
    import { Mounter } from ${JSON.stringify(dist('index.js'))}
    const mounter = new Mounter()
    const stack = await mounter.open({ lowerdir: ${JSON.stringify(area.layers(2))} })
    const [upperdir, workdir, rootfs] = ${JSON.stringify([upperdir, workdir, area.mkdir('rootfs')])}
    const target = { path: '/file', mountNamespace: { pid: ${container.pid} } }
    const { code } = await stack.mount({ upperdir, workdir, target, create: true }).catch((error) => error)
    const next = await stack.mount({ upperdir, workdir, target: rootfs })
    await next.unmount()
    await stack.close()
    await mounter.close()
    console.log(code)`
    // of each thread: it enters, and none of its ways back works
    const strace = ['--inject=setns:error=EPERM:when=2+']
    const { stdout, stderr, calls } = await straceModule(script, { strace, trace: 'setns,unlinkat' })
    t.same([stdout, stderr], ['ENOTDIR\n', ''], 'and the next one is served')
    t.ok(calls.filter(({ name, result }) => name === 'setns' && result.startsWith('-1 EPERM')).length > 0)
    t.same(
      calls.filter(({ name }) => name === 'unlinkat'),
      [],
      'what was made at home stays, since it can be undone at home only',
    )
    t.equal(
      container.sh(`ls ${area.path('new')}`),
      'upper\nwork\n',
      'what has the same names there is not touched',
    )
    t.ok(existsSync(upperdir) && existsSync(workdir))
  },
)

t.test('what fails after the attach is taken back there', all(privileged, programs('strace')), async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  const before = container.mounts().length
  const script = `
    import { Mounter } from ${JSON.stringify(dist('index.js'))}
    const mounter = new Mounter()
    const stack = await mounter.open({ lowerdir: ${JSON.stringify(area.layers(2))} })
    const mountNamespace = { pid: ${container.pid} }
    const rootfs = await stack.mount({})
    const seen = []
    for (const call of [
      () => rootfs.attach({ path: '/rootfs', mountNamespace }, { propagation: 'slave' }),
      () => stack.mount({ target: { path: '/made', mountNamespace }, create: true, propagation: 'slave' }),
    ]) seen.push(await call().then(() => 'done', ({ code, syscall }) => code + ' ' + syscall))
    console.log(JSON.stringify([...seen, rootfs.detached]))
    await rootfs.unmount()
    await stack.close()
    await mounter.close()`
  // what the probe of that call is answered, too
  const strace = ['--inject=mount_setattr:error=EBADF']
  const { stdout, stderr } = await straceModule(script, { strace, trace: 'mount_setattr' })
  t.equal(stderr, '')
  // what was unmounted once cannot be attached again: it is gone, not detached
  t.same(JSON.parse(stdout), ['EBADF mount_setattr', 'EBADF mount_setattr', false])
  t.equal(container.mounts().length, before)
  t.equal(container.sh('test -e /made || echo gone'), 'gone\n')
})

t.test('a handle that is dropped keeps no namespace', privileged, async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  const { upperdir, workdir } = area.container('c')
  const script = `
    import { readdirSync, readlinkSync } from 'node:fs'
    import { setTimeout as sleep } from 'node:timers/promises'
    import { Mounter } from ${JSON.stringify(dist('index.js'))}
    const namespaces = () => readdirSync('/proc/self/fd').filter((fd) => {
      try { return readlinkSync('/proc/self/fd/' + fd).startsWith('mnt:') } catch { return false }
    }).length
    const warnings = []
    process.on('warning', ({ code }) => warnings.push(code))
    const mounter = new Mounter()
    const stack = await mounter.open({ lowerdir: ${JSON.stringify(area.layers(2))} })
    const before = namespaces()
    let rootfs = await stack.mount({
      ...${JSON.stringify({ upperdir, workdir, target: inside(container, '/rootfs') })},
    })
    const during = namespaces()
    rootfs = undefined
    for (let i = 0; i < 500 && namespaces() > before; i++) {
      globalThis.gc()
      await sleep(10)
    }
    const after = namespaces()
    const again = await stack.mount(${JSON.stringify({ upperdir, workdir })}).catch(({ code }) => code)
    console.log(JSON.stringify([before, during, after, again, warnings]))
    await stack.close()
    await mounter.close()`
  const { stdout, stderr } = await run(process.execPath, [
    '--expose-gc',
    '--input-type=module',
    '--eval',
    script,
  ])
  t.same([stdout, stderr], ['[0,1,0,"EBUSY",[]]\n', ''])
  t.same(overlays(container), ['/rootfs'], 'as an attached mount everywhere, it stays')
  t.same(readdirSync(upperdir), [])
})

const swapping = `
import os
while True:
    for old, new in (('/spot', '/dir'), ('/link', '/spot'), ('/spot', '/link'), ('/dir', '/spot')):
        try: os.rename(old, new)
        except OSError: pass
`
t.test(
  'a target that becomes a symbolic link, and a directory again',
  all(privileged, programs('python3')),
  async (t) => {
    const area = scratch(t)
    const container = await startContainer(t)
    container.sh('mkdir /spot; touch /spot/is-spot; ln -s rootfs /link')
    const file = area.path('swap.py')
    writeFileSync(file, swapping)
    const mounter = new Mounter()
    const stack = await mounter.open({ lowerdir: area.layers(2) })
    const before = mounts().length
    const stdio: ['ignore', 'inherit', 'inherit', number] = [
      'ignore',
      'inherit',
      'inherit',
      openSync(file, 'r'),
    ]
    const swap = ['/usr/bin/python3', '/proc/self/fd/3']
    const swapper = spawn('nsenter', [`--mount=${container.namespace}`, ...swap], { stdio })
    t.teardown(() => swapper.kill('SIGKILL'))
    const codes = new Set<string>()
    for (let i = 0; i < 200; i++) {
      const made = await stack
        .mount({ target: inside(container, '/spot') })
        .catch((error: MountError) => error)
      const seen = overlays(container)
      if (made instanceof Error) codes.add((made as MountError).code)
      else {
        t.equal(seen.length, 1)
        t.ok(['/spot', '/dir'].includes(seen[0] as string), `the directory itself, by whatever name: ${seen}`)
        // the container has moved it out of reach
        await made.unmount().catch((error: MountError) => codes.add(error.code))
      }
      t.notOk(seen.includes('/rootfs'), 'not where the link leads')
      t.equal(mounts().length, before, 'nothing here')
      if (overlays(container).length > 0) container.sh('umount -n /spot 2>&- || umount -n /dir')
    }
    const known = ['ELOOP', 'ENOENT', 'ENOTDIR', 'EINVAL', 'EBUSY']
    t.same(
      [...codes].filter((code) => !known.includes(code)),
      [],
    )
    await stack.close()
    await mounter.close()
  },
)
