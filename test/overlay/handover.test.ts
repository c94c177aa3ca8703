/**
 * A rootfs passes from a process that has ended to this one by its JSON. What is not as it was written down is told
 * apart, with the cases really made, below a private and below a shared `/`; and left alone.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { renameSync, symlinkSync } from 'node:fs'
import t, { type Test } from 'tap'
import { binding } from '../../lib/binding.js'
import { type HandoverError, MountError, Mounter, Rootfs } from '../../lib/index.js'
import { dist, environment, run, runModule } from '../support/child.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { propagations, withPropagation } from '../support/peers.js'
import { ways } from '../support/rungs.js'
import { type Container, type Scratch, scratch } from '../support/scratch.js'

const sh = (...args: string[]): void => {
  execFileSync(args[0] as string, args.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
}
const at = (dir: string) => mounts().filter((mount) => isBelow(mount, dir))
const typesAt = (dir: string): string[] => at(dir).map(({ type }) => type)
const tmpfsOn = (dir: string) => sh('mount', '-n', '-t', 'tmpfs', 'overlayfd-test', dir)

/** Text of a program that mounts, writes what it has, and ends as it is told. */
const mounting = (options: object, rung: string, end: string) => `
import { Mounter } from ${JSON.stringify(dist('index.js'))}
const mounter = new Mounter({ rung: ${JSON.stringify(rung)} })
const rootfs = await mounter.mount(${JSON.stringify(options)})
process.stdout.write(JSON.stringify(rootfs), () => { ${end} })`

const killed = `process.kill(process.pid, 'SIGKILL')`

/** JSON of a rootfs whose process was killed. */
const leftBy = async (t: Test, options: object, rung = 'direct', end = killed): Promise<string> => {
  const { stdout, stderr, signal } = await runModule(mounting(options, rung, end))
  t.equal(stderr, '')
  t.equal(signal, end === killed ? 'SIGKILL' : null)
  return stdout
}

const openers = [
  ['promise', (json: string | object, mounter?: Mounter) => Rootfs.open(json, mounter && { mounter })],
  ['Sync', async (json: string | object, mounter?: Mounter) => Rootfs.openSync(json, mounter && { mounter })],
] as const

for (const { rung, idmap } of ways) {
  t.test(`after a kill: ${rung}`, privileged, async (t) => {
    const area = scratch(t)
    const { target, ...upper } = area.container('c')
    const lowerdir = area.layers(2)
    const mounter = new Mounter({ rung })
    const left = watch()
    for (const [name, open] of openers) {
      for (const end of [killed, 'rootfs.release(); process.exit()', 'process.exit()']) {
        const json = await leftBy(t, { lowerdir, idmap, target, ...upper }, rung, end)
        const rootfs = await open(json, mounter)
        t.equal(rootfs.path, target)
        t.equal(rootfs.rung, rung)
        t.equal(String(rootfs.mountId), JSON.parse(json).mountId)
        t.notOk(rootfs.detached)
        t.same({ ...rootfs.toJSON() }, JSON.parse(json), 'and can be handed on')
        // the upper is known to be in use
        const second = mounter.mount({ lowerdir, idmap, ...upper, target: area.mkdir('second') })
        await t.rejects(second, { code: 'EBUSY', hint: /this upperdir is in use by the overlay at/ }, name)
        await rootfs.unmount({ wait: 'teardown' })
        t.same(typesAt(target), [])
        const again = await mounter.mount({ lowerdir, idmap, ...upper, target })
        await again.unmount({ wait: 'teardown' })
      }
    }
    const clone = await leftBy(t, { lowerdir: lowerdir.slice(0, 1), idmap, target }, rung)
    t.equal(JSON.parse(clone).kind, 'clone')
    await (await mounter.openRootfs(clone)).unmount()
    t.same(typesAt(target), [])
    await mounter.close()
    t.same(await left({ threads: true }), [])
  })
}

interface Given {
  readonly area: Scratch
  readonly c: Container
}
type Undo = (() => void) | undefined
type Wanted = readonly [HandoverError['code'], RegExp]
/** `make` spoils it and may answer how to mend it; a mended one can be opened. */
interface Case {
  readonly name: string
  readonly wanted: Wanted
  /** before it is mounted */
  prepare?(area: Scratch): void
  make(given: Given): Undo
}

const cases: readonly Case[] = [
  {
    name: 'unmounted',
    wanted: ['ERR_OVERLAYFD_MOUNT_GONE', /unmounted, and nothing is mounted/],
    make: ({ c }) => void sh('umount', '-n', c.target),
  },
  {
    name: 'unmounted, and its directory too',
    wanted: ['ERR_OVERLAYFD_MOUNT_GONE', /unmounted, and nothing is mounted/],
    make: ({ c, area }) => {
      sh('umount', '-n', c.target)
      renameSync(c.target, area.path('away'))
    },
  },
  {
    name: 'unmounted, and a tmpfs is there',
    wanted: ['ERR_OVERLAYFD_PATH_REUSED', /another mount is at its place/],
    make: ({ c }) => {
      sh('umount', '-n', c.target)
      tmpfsOn(c.target)
    },
  },
  {
    name: 'unmounted, and another overlay is there',
    wanted: ['ERR_OVERLAYFD_PATH_REUSED', /another mount is at its place/],
    make: ({ c, area }) => {
      sh('umount', '-n', c.target)
      const lowerdir = area.layers(2, { below: 'others' }).join(':')
      sh('mount', '-n', '-t', 'overlay', '-o', `lowerdir=${lowerdir}`, 'overlay', c.target)
    },
  },
  {
    name: 'covered by a tmpfs',
    wanted: ['ERR_OVERLAYFD_MOUNT_COVERED', /another mount covers it/],
    make: ({ c }) => {
      tmpfsOn(c.target)
      return () => sh('umount', '-n', c.target)
    },
  },
  {
    name: 'covered by a mount above',
    wanted: ['ERR_OVERLAYFD_MOUNT_COVERED', /a mount on a directory above covers it/],
    make: ({ area }) => {
      tmpfsOn(area.path('containers'))
      return () => sh('umount', '-n', area.path('containers'))
    },
  },
  {
    name: 'moved',
    wanted: ['ERR_OVERLAYFD_MOUNT_MOVED', /moved to ".*elsewhere"/],
    // nothing is moved from below a shared mount
    prepare: (area) => sh('mount', '-n', '--make-private', area.dir),
    make: ({ c, area }) => {
      const elsewhere = area.mkdir('elsewhere')
      sh('mount', '-n', '--move', c.target, elsewhere)
      return () => sh('mount', '-n', '--move', elsewhere, c.target)
    },
  },
  {
    name: 'a directory above was renamed',
    wanted: ['ERR_OVERLAYFD_MOUNT_MOVED', /moved to ".*renamed\/c\/rootfs"/],
    make: ({ area }) => {
      renameSync(area.path('containers'), area.path('renamed'))
      return () => renameSync(area.path('renamed'), area.path('containers'))
    },
  },
]

/** What is written where ids are used again: the id of mountinfo. */
const oldStyle = (json: string): string => {
  const written = JSON.parse(json) as { target: string; mountId: string }
  const [mount] = at(written.target)
  return JSON.stringify({ ...written, mountId: String(mount?.id), unique: false })
}

for (const propagation of propagations) {
  for (const { name, wanted, prepare, make } of cases) {
    t.test(`${name}: / ${propagation}`, privileged, async (t) => {
      const area = scratch(t)
      const c = area.container('c')
      await withPropagation(t, propagation, async () => {
        prepare?.(area)
        const unique = await leftBy(t, { lowerdir: area.layers(2), ...c })
        const styles = { 'unique ids': unique, 'ids that are used again': oldStyle(unique) }
        const mend = make({ area, c })
        const before = at(area.dir)
        const [code, message] = wanted
        for (const [style, json] of Object.entries(styles)) {
          for (const [form, open] of openers) {
            const error = { name: 'HandoverError', code, path: c.target, message }
            await t.rejects(open(json), error, `${form}, ${style}`)
          }
        }
        t.same(at(area.dir), before, 'nothing was touched')
        mend?.()
        if (mend) await (await Rootfs.open(styles['ids that are used again'])).unmount()
        // what stands in its place
        for (const { target } of at(area.dir).slice(1).reverse()) sh('umount', '-n', target.toString())
      })
    })
  }
}

t.test('an id that was given again', privileged, async (t) => {
  const area = scratch(t)
  const c = area.container('c')
  const other = area.container('other')
  const lowerdir = area.layers(2)
  const gone = JSON.parse(oldStyle(await leftBy(t, { lowerdir, ...c }))) as Record<string, string>
  await (await Rootfs.open(gone)).unmount({ wait: 'teardown' })
  const next = await Rootfs.open(await leftBy(t, { lowerdir, ...other, target: c.target }))
  // the kernel gives the lowest free number, to any process of this machine: that it came back here is written, not awaited
  const json: Record<string, string> = { ...gone, mountId: String(at(c.target)[0]?.id) }
  await t.rejects(Rootfs.open(json), { code: 'ERR_OVERLAYFD_PATH_REUSED' }, 'another root, another maker')
  const { ino: _, ...anyRoot } = json
  await t.rejects(Rootfs.open(anyRoot), { code: 'ERR_OVERLAYFD_PATH_REUSED' }, 'another maker')
  t.same(typesAt(c.target), ['overlay'])
  await next.unmount()
})

t.test('through a symbolic link', privileged, async (t) => {
  const area = scratch(t)
  const c = area.container('c')
  symlinkSync('containers/c', area.path('link'))
  const json = await leftBy(t, { lowerdir: area.layers(2), ...c, target: area.path('link/rootfs') })
  tmpfsOn(c.target)
  await t.rejects(Rootfs.open(json), { code: 'ERR_OVERLAYFD_MOUNT_COVERED' })
  sh('umount', '-n', c.target)
  const rootfs = await Rootfs.open(json)
  t.equal(rootfs.path, area.path('link/rootfs'))
  await rootfs.unmount()
  t.same(typesAt(c.target), [])
})

/** A program that opens what it is given, and prints the code of the error. */
const opening = (then = '') => `
import { Rootfs } from ${JSON.stringify(dist('index.js'))}
const rootfs = await Rootfs.open(process.argv[1]).catch((error) => error)
${then}
console.log(rootfs.code ?? rootfs.path, rootfs.message ?? '')`

t.test('another mount namespace, and another boot', privileged, async (t) => {
  const area = scratch(t)
  const c = area.container('c')
  const json = await leftBy(t, { lowerdir: area.layers(2), ...c })
  const opened = (...before: string[]) =>
    run(before[0]!, [...before.slice(1), process.execPath, '--input-type=module', '--eval', opening(), json])
  t.match(await opened('env'), { stderr: '', stdout: new RegExp(`^${c.target}`) })
  t.match(await opened('unshare', '-m'), {
    stderr: '',
    stdout: /^ERR_OVERLAYFD_OTHER_NAMESPACE .*another mount namespace/,
  })
  const boot = area.path('boot')
  const as = (id: string) =>
    run('unshare', [
      ...['-m', 'sh', '-c'],
      `printf '%s\n' '${id}' > ${boot}; mount -n --bind ${boot} /proc/sys/kernel/random/boot_id; exec "$@"`,
      ...['-', process.execPath, '--input-type=module', '--eval', opening(), json],
    ])
  t.match(await as('01234567-89ab-4def-8123-456789abcdef'), {
    stderr: '',
    stdout: /^ERR_OVERLAYFD_OTHER_BOOT .*the machine was started anew/,
  })
  t.match(await as(''), { stderr: '', stdout: /^ERR_OVERLAYFD_OTHER_BOOT .*no boot id can be read here/ })
  const unread = { ...JSON.parse(json), boot: null }
  await t.rejects(Rootfs.open(unread), {
    code: 'ERR_OVERLAYFD_OTHER_BOOT',
    message: /where it was written down/,
  })
  t.same(typesAt(c.target), ['overlay'])
  await (await Rootfs.open(json)).unmount()
})

t.test('written after its end', privileged, async (t) => {
  const area = scratch(t)
  const rootfs = await new Mounter().mount({ lowerdir: area.layers(2), ...area.container('c') })
  await rootfs.unmount()
  await t.rejects(Rootfs.open(JSON.stringify(rootfs)), {
    code: 'ERR_OVERLAYFD_MOUNT_GONE',
    message: /before it was written down/,
  })
})

t.test('never attached', privileged, async (t) => {
  const mounter = new Mounter()
  const lowerdir = scratch(t).layers(2)
  const rootfs = await mounter.mount({ lowerdir })
  const isDetached = {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /"json.phase".*a detached one is handed over by its fd/,
  }
  await t.rejects(Rootfs.open(rootfs.toJSON()), isDetached)
  const taken = await Rootfs.fromFd(rootfs.release() as number)
  await t.rejects(Rootfs.open(rootfs.toJSON()), isDetached, 'released')
  await taken.unmount()
  await t.rejects(Rootfs.open(taken.toJSON()), isDetached, 'unmounted')
  await mounter.close()
})

t.test('attached by way of its mount namespace', privileged, async (t) => {
  const area = scratch(t)
  const { target: path } = area.container('c')
  const lowerdir = area.layers(2)
  const rootfs = await new Mounter().mount({
    lowerdir,
    target: { path, mountNamespace: { pid: process.pid } },
  })
  const json = JSON.stringify(rootfs)
  rootfs.release()
  const text = ['--input-type=module', '--eval', opening(), json]
  const found = await run(process.execPath, text)
  t.match(found, { stdout: new RegExp(`^${path}`), stderr: '' })
  t.match(await run('unshare', ['-m', process.execPath, ...text]), {
    stdout: /^ERR_OVERLAYFD_OTHER_NAMESPACE/,
    stderr: '',
  })
  const again = await Rootfs.open(json)
  t.equal((again.toJSON() as { namespace: number }).namespace, binding.mountNamespace())
  await again.unmount()
  t.same(typesAt(path), [])
})

t.test('JSON that names something else', privileged, async (t) => {
  const area = scratch(t)
  const c = area.container('c')
  const json = JSON.parse(await leftBy(t, { lowerdir: area.layers(2), ...c }))
  const theirs = area.mkdir('theirs')
  tmpfsOn(theirs)
  const before = at(area.dir)
  const spoilt: object[] = [
    { target: theirs },
    { target: area.path('containers') },
    { target: '/proc' },
    { mountId: '1' },
    { mountId: String(2n ** 64n - 1n) },
    { dev: '0' },
    { kind: 'clone' },
  ]
  for (const change of spoilt) {
    const error = { name: 'HandoverError', code: /^ERR_OVERLAYFD_(PATH_REUSED|MOUNT_(GONE|MOVED|COVERED))$/ }
    await t.rejects(Rootfs.open({ ...json, ...change }), error, JSON.stringify(change))
  }
  await t.rejects(Rootfs.open({ ...json, target: `/${'x'.repeat(300)}` }), MountError)
  for (const bad of ['', '{}', '[]', 'null', `${JSON.stringify(json)}x`]) {
    await t.rejects(Rootfs.open(bad), TypeError)
    t.throws(() => Rootfs.openSync(bad), TypeError)
  }
  const ended = { signal: AbortSignal.abort(new Error('enough')) }
  await t.rejects(Rootfs.open(json, ended), { message: 'enough' })
  await t.rejects(Rootfs.open(json, { lazy: true } as object), { code: 'ERR_INVALID_ARG_VALUE' })
  t.same(at(area.dir), before)
  sh('umount', '-n', theirs)
  await (await Rootfs.open(json)).unmount()
})

/** Has it open, and unmounts it at the first byte of its standard input. */
const racer = async (json: string) => {
  const text = opening(`
    process.stdout.write('ready')
    process.stdin.once('data', async () => {
      const ended = await rootfs.unmount().then(() => 'unmounted', (error) => error.code + ' ' + error.hint)
      process.stdout.write(ended, () => process.exit())
    })
    await new Promise(() => {})`)
  const args = ['--unset=NODE_OPTIONS', process.execPath, '--input-type=module', '--eval', text, json]
  const child = spawn('env', args, { env: environment(), stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(child, 'close')
  await once(child.stdout, 'data')
  return async () => {
    child.stdin.write('now')
    const [word] = await once(child.stdout, 'data')
    await ended
    return String(word)
  }
}

t.test('two processes unmount it at once: one wins', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  for (let round = 0; round < 3; round++) {
    const c = area.container(`c${round}`)
    const json = await leftBy(t, { lowerdir, ...c })
    const racers = await Promise.all([racer(json), racer(json)])
    const both = await Promise.all(racers.map((go) => go()))
    const [winner, loser] = both.sort().reverse()
    t.equal(winner, 'unmounted')
    t.match(loser, /^EINVAL it is not mounted there any more/)
    t.same(typesAt(c.target), [])
    await t.rejects(Rootfs.open(json), { code: 'ERR_OVERLAYFD_MOUNT_GONE' })
  }
})

t.test('opened twice in one process', privileged, async (t) => {
  const area = scratch(t)
  const c = area.container('c')
  const json = await leftBy(t, { lowerdir: area.layers(2), ...c })
  const [one, two] = [await Rootfs.open(json), Rootfs.openSync(json)]
  await one.unmount()
  await t.rejects(two.unmount(), { code: 'EINVAL', hint: /not mounted there any more/ })
  const next = await Mounter.default.mount({ lowerdir: area.layers(2), ...c })
  await t.rejects(two.unmount(), { code: 'EBUSY' }, 'another is left alone')
  await next.unmount()
})
