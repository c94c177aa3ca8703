/** A program inside a user namespace, started by a user without rights; and what overlayfd does there. */
import { chownSync, lstatSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { spawnInUserNamespace } from '../lib/rootless.js'
import { type Account, type AccountOptions, account, plainAccount, subids } from './support/account.js'
import { all, privileged, programs } from './support/needs.js'
import { scratch } from './support/scratch.js'

const needs = all(privileged, programs('unshare', 'setpriv', 'newuidmap', 'newgidmap', 'mount', 'cp'))

/** Starts `inner`, a module, inside. */
const starter = (plain: Account, inner: string, stdio = "['ignore', 'inherit', 'inherit']") => {
  const file = join(plain.home, 'inner.mjs')
  writeFileSync(file, inner)
  return `
    import { spawnInUserNamespace } from '${plain.module('rootless.js')}'
    const child = await spawnInUserNamespace(process.execPath, ['${file}', 'an argument'], { stdio: ${stdio} })
    child.once('exit', (code, signal) => { process.exitCode = code ?? 1; if (signal) console.log(signal) })
  `
}
const last = (text: string) => JSON.parse(text.trim().split('\n').at(-1) || 'null') as Record<string, unknown>

t.test('root of a user namespace with the ids of /etc/subuid and /etc/subgid', needs, async (t) => {
  const plain = plainAccount(scratch(t))
  const inner = `
    import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
    // stdio may be one of the test's
    const held = readdirSync('/proc/self/fd').filter((fd) => fd > 2).map((fd) => { try { return readlinkSync('/proc/self/fd/' + fd) } catch { return '' } })
    const words = (file) => readFileSync('/proc/self/' + file, 'utf8').trim().split('\\n').map((line) => line.trim().replace(/ +/g, ' '))
    const { features } = await import('${plain.module('index.js')}')
    const { mayMount, initialUserNamespace } = features()
    console.log(JSON.stringify({
      ids: [process.getuid(), process.getgid()], uid: words('uid_map'), gid: words('gid_map'), mayMount,
      initialUserNamespace, argument: process.argv[2], sockets: held.filter((link) => link.startsWith('socket:')).length,
    }))
    process.exitCode = 7
  `
  const ended = await plain.runModule(starter(plain, inner))
  t.equal(ended.stderr, '')
  t.equal(ended.status, 7, 'the exit status is the program’s')
  t.match(last(ended.stdout), {
    ids: [0, 0],
    uid: [`0 ${account.uid} 1`, `1 ${subids.uid.first} 65536`],
    gid: [`0 ${account.gid} 1`, `1 ${subids.gid.first} 65536`],
    mayMount: true,
    initialUserNamespace: false,
    argument: 'an argument',
    sockets: 0,
  })
})

t.test('stdio, a channel and a signal are those of the program', needs, async (t) => {
  const plain = plainAccount(scratch(t))
  const inner = `
    process.on('message', (message) => { process.send({ got: message }); setInterval(() => {}, 1000) })
    console.error('to stderr')`
  const stdio = "['ignore', 'inherit', 'pipe', 'ipc']"
  const after = `
    child.stderr.once('data', (data) => { console.log(String(data).trim()); child.send('hello') })
    child.once('message', (message) => { console.log(JSON.stringify(message)); child.kill('SIGTERM') })`
  const ended = await plain.runModule(starter(plain, inner, stdio) + after)
  t.equal(ended.stdout, 'to stderr\n{"got":"hello"}\nSIGTERM\n', ended.stderr)
})

t.test('the whole flow there: his own layers, and a tmpfs with idmaps', needs, async (t) => {
  const area = scratch(t)
  const plain = plainAccount(area)
  const { home } = plain
  const dir = join(home, 'images')
  for (const layer of ['a', 'b']) {
    mkdirSync(join(dir, layer, 'dir'), { recursive: true })
    writeFileSync(join(dir, layer, `of-${layer}`), layer)
    for (const name of ['', 'dir', `of-${layer}`]) chownSync(join(dir, layer, name), account.uid, account.gid)
  }
  chownSync(dir, account.uid, account.gid)
  const inner = `
    import { chownSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
    import { LayerStack, mountOverlay } from '${plain.module('index.js')}'
    import { mount } from '${plain.module('sys.js')}'
    const result = {}
    const container = (base, n) => ({ upperdir: base + n + '/upper', workdir: base + n + '/work', target: base + n + '/rootfs', create: true })
    const stack = await LayerStack.open({ lowerdir: ['${dir}/a', '${dir}/b'] })
    const one = await stack.mount(container('${home}/c', 1))
    writeFileSync(one.path + '/new', 'written')
    chownSync(one.path + '/new', 1000, 1000)
    rmSync(one.path + '/dir', { recursive: true })
    result.shown = readdirSync(one.path).join()
    result.rung = one.rung
    await one.unmount()
    result.below = readdirSync('${home}/c1/rootfs').length
    await stack.close()
    const ids = (outside) => ({ uid: [{ inside: 0, outside, length: 1000 }], gid: [{ inside: 0, outside, length: 1000 }] })
    const refused = await mountOverlay({ lowerdir: ['${dir}/a', '${dir}/b'], idmap: ids(1) }).catch((error) => error)
    result.refused = [refused.code, refused.hint]
    mkdirSync('${home}/own')
    mount('tmpfs', '${home}/own', 'tmpfs', 0, 'mode=755')
    for (const layer of ['a', 'b']) mkdirSync('${home}/own/' + layer + '/dir', { recursive: true })
    const own = await LayerStack.open({ lowerdir: ['${home}/own/a', '${home}/own/b'], idmap: ids(1) })
    for (const [n, more] of [[2, {}], [3, { idmap: ids(5000) }], [4, { upper: 'idmapped' }]]) {
      const rootfs = await own.mount({ upper: 'shifted', ...container('${home}/own/c', n), ...more })
      // root of this namespace has no id in a mount that is idmapped as a whole
      if (more.upper === undefined) writeFileSync(rootfs.path + '/file', '')
      result['mapped' + n] = [rootfs.rung, statSync(rootfs.path + '/dir').uid, rootfs.notes.some((note) => note.includes('userxattr'))]
      await rootfs.unmount()
    }
    await own.close()
    console.log(JSON.stringify(result))
  `
  const ended = await plain.runModule(starter(plain, inner))
  t.equal(ended.stderr, '')
  t.match(last(ended.stdout), {
    shown: 'new,of-a,of-b',
    rung: 'direct',
    below: 0,
    refused: [
      'EPERM',
      /^no CAP_SYS_ADMIN over the file system of .* which was not mounted in this user namespace$/,
    ],
    mapped2: ['detached-tree', 1, true],
    mapped3: ['detached-tree', 5000, true],
    mapped4: ['detached-tree', 1, true],
  })
  const { uid, gid } = lstatSync(join(home, 'c1/upper/new'))
  t.same(
    [uid, gid],
    [subids.uid.first + 999, subids.gid.first + 999],
    'on disk: id 1000 inside is the 1000th',
  )
  t.equal(readFileSync(join(home, 'c1/upper/new'), 'utf8'), 'written')
})

t.test('the same with unshare(1) alone, as docs/rootless.md has it', needs, async (t) => {
  const plain = plainAccount(scratch(t))
  const command = /^unshare .*$/m.exec(readFileSync(new URL('../docs/rootless.md', import.meta.url), 'utf8'))?.[0]
  const [unshare, ...args] = command!.replace(/ node .*$/, '').split(' ')
  const { stdout, stderr } = await plain.run([unshare!, ...args, 'sh', '-c', 'id -u; cat /proc/self/uid_map; mount -t tmpfs t /mnt && echo mounted'])
  t.equal(stderr, '')
  const lines = stdout.trim().split('\n').map((line) => line.trim().replace(/ +/g, ' '))
  t.equal(lines[0], '0')
  t.ok(lines.includes(`0 ${account.uid} 1`) && lines.some((line) => line.startsWith(`1 ${subids.uid.first} `)), stdout)
  t.equal(lines.at(-1), 'mounted')
}) // biome-ignore format: the commands

const refusals: [string, AccountOptions & { script?: string; wrap?: string[] }, RegExp][] = [
  ['no subordinate users', { subuid: 'somebody:1:2\n' },
    /^\/etc\/subuid has no ids for overlayfd-plain: .* usermod --add-subuids 100000-165535 overlayfd-plain$/],
  ['no subordinate groups', { subgid: '' }, /^\/etc\/subgid has no ids for overlayfd-plain: .*--add-subgids/],
  ['no newuidmap', { script: `mkdirSync('bin'); for (const name of ['sh', 'unshare']) symlinkSync('/usr/bin/' + name, 'bin/' + name); process.env.PATH = process.cwd() + '/bin'` },
    /^newuidmap is not installed: package uidmap/],
  ['newuidmap without its right', { before: 'mount --bind /usr/bin /usr/bin; mount -o remount,bind,nosuid /usr/bin' },
    /^newuidmap failed: newuidmap: .*(denied|not permitted)/],
  // more extents than the kernel's 340
  ['newuidmap refuses', { subuid: Array.from({ length: 400 }, (_, i) => `overlayfd-plain:${700_000 + 2 * i}:1\n`).join('') }, /^newuidmap failed: newuidmap: /],
  ['no user namespaces', { wrap: ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'inject=unshare:error=EPERM'] },
    /^no user namespace could be made: (a filter \(seccomp\), a security module or a chroot may forbid it|\S+ is [01])$/],
] // biome-ignore format: a table

for (const [name, { script = '', wrap = [], ...options }, message] of refusals) {
  t.test(`refused: ${name}`, all(needs, programs('strace')), async (t) => {
    const plain = plainAccount(scratch(t), options)
    const text = `
      import { mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs'
      import { spawnInUserNamespace } from '${plain.module('rootless.js')}'
      process.chdir('${plain.home}')
      ${script}
      const { code, message } = await spawnInUserNamespace('true').then(() => ({}), (error) => error)
      // no child is left that waits
      const children = readFileSync('/proc/self/task/' + process.pid + '/children', 'utf8').trim().split(' ')
      const alive = children.filter((pid) => pid && !/^State:\\s+Z/m.test(readFileSync('/proc/' + pid + '/status', 'utf8')))
      console.log(JSON.stringify({ code, message, alive: alive.length }))
    `
    const ended = await plain.runModule(text, { wrap })
    t.match(last(ended.stdout), { code: 'ERR_OVERLAYFD_ROOTLESS', message, alive: 0 }, ended.stderr)
  })
}

t.test('a command that is not there is the shell’s status', needs, async (t) => {
  const plain = plainAccount(scratch(t))
  const ended = await plain.runModule(`
    import { spawnInUserNamespace } from '${plain.module('rootless.js')}'
    const child = await spawnInUserNamespace('/not/there', [], { stdio: 'ignore' })
    child.once('exit', (code) => console.log(code))`)
  t.equal(ended.stdout, '127\n', ended.stderr)
})

t.test(
  'aborted while its ids are written: the promise says so, once, and no child is left',
  needs,
  async (t) => {
    const plain = plainAccount(scratch(t))
    const ended = await plain.runModule(`
    import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
    import { spawnInUserNamespace } from '${plain.module('rootless.js')}'
    process.chdir('${plain.home}')
    mkdirSync('bin')
    // says that it is there, and takes its time
    writeFileSync('bin/newuidmap', '#!/bin/sh\\n>begun; sleep 0.3; exec /usr/bin/newuidmap "$@"\\n', { mode: 0o755 })
    process.env.PATH = process.cwd() + '/bin:' + process.env.PATH
    const controller = new AbortController()
    const waiting = setInterval(() => { if (existsSync('begun')) { clearInterval(waiting); controller.abort() } }, 5)
    const { name, code } = await spawnInUserNamespace('sleep', ['60'], { signal: controller.signal }).then(() => ({}), (error) => error)
    const children = readFileSync('/proc/self/task/' + process.pid + '/children', 'utf8').trim()
    console.log(JSON.stringify({ name, code, children }))
  `)
    t.match(last(ended.stdout), { name: 'AbortError', code: 'ABORT_ERR', children: '' }, ended.stderr)
    t.equal(ended.status, 0)
  },
)

t.test('a directory that is not there is not taken for a missing program', needs, async (t) => {
  const plain = plainAccount(scratch(t))
  const ended = await plain.runModule(`
    import { spawnInUserNamespace } from '${plain.module('rootless.js')}'
    const { code, message } = await spawnInUserNamespace('true', [], { cwd: '/not/there' }).catch((error) => error)
    console.log(JSON.stringify({ code, message }))`)
  const message = /^unshare cannot be started: options\.cwd is no directory, or util-linux is not installed$/
  t.match(last(ended.stdout), { code: 'ERR_OVERLAYFD_ROOTLESS', message }, ended.stderr)
})

t.test('wrong arguments', async (t) => {
  const call = spawnInUserNamespace as (...args: unknown[]) => Promise<unknown>
  const table: [unknown[], string, RegExp][] = [
    [[7], 'ERR_INVALID_ARG_TYPE', /"command" argument must be of type string/],
    [[''], 'ERR_INVALID_ARG_VALUE', /"command" argument must not be empty/],
    [['true', 'x'], 'ERR_INVALID_ARG_TYPE', /"args" argument must be an array/],
    [['true', ['a', 1]], 'ERR_INVALID_ARG_TYPE', /"args\[1\]" argument must be of type string/],
    [['true', ['a\0b']], 'ERR_INVALID_ARG_VALUE', /"args\[0\]" argument must not hold a NUL byte/],
    [['true\0'], 'ERR_INVALID_ARG_VALUE', /"command" argument must not hold a NUL byte/],
    [['true', [], null], 'ERR_INVALID_ARG_TYPE', /"options" argument must be an object. Received null/],
    [
      ['true', [], { stdio: 5 }],
      'ERR_INVALID_ARG_TYPE',
      /"options.stdio" argument must be a string or an array/,
    ],
    [['true', [], { stdio: { length: 2 } }], 'ERR_INVALID_ARG_TYPE', /"options.stdio"/],
    [['true', [], { shell: true }], 'ERR_INVALID_ARG_VALUE', /"options.shell" argument cannot be used here/],
    [
      ['true', [], { stdio: Array(10).fill('ignore') }],
      'ERR_OUT_OF_RANGE',
      /"options.stdio".*at most 9 entries/,
    ],
  ]
  for (const [args, code, message] of table) await t.rejects(call(...args), { code, message })
})
