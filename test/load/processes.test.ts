/**
 * Too few processes and threads (RLIMIT_NPROC): each operation is done with no place free, with one, with two, until it
 * goes well. Until then it is one EAGAIN that says so, nothing is left, and with places free again the same mounter does it.
 *
 * Who has CAP_SYS_ADMIN or CAP_SYS_RESOURCE over the machine is not limited, so this is root of a user namespace: there
 * the limit counts its own threads and processes. Those that take the places away are processes that wait.
 */
import { writeFileSync } from 'node:fs'
import t from 'tap'
import { isStaged } from '../../lib/overlay/choose.js'
import { dist } from '../support/child.js'
import { all, privileged, programs } from '../support/needs.js'
import { type Way, ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'
import { mapping, userNamespace } from '../support/userns.js'

/** What Node needs, and places to take away. */
const limit = 64
/** More than any of them takes. */
const enough = 20

interface Seen {
  /** with how many places free each operation went well */
  readonly places: Record<string, number>
  readonly errors: readonly { code: string; syscall: string; call: string; hint: string }[]
  readonly problems: readonly string[]
}

const script = ({ rung, idmap }: Way, own: string) => `
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Mounter } from ${JSON.stringify(dist('index.js'))}
const own = ${JSON.stringify(own)}
const idmap = ${idmap === undefined ? 'undefined' : `(outside) => ({ uid: [{ inside: 0, outside, length: 1 }], gid: [{ inside: 0, outside, length: 1 }] })`}
const dir = (...names) => { const path = [own, ...names].join('/'); mkdirSync(path, { recursive: true }); return path }
const lowerdir = [dir('layers/0'), dir('layers/1')]
const upper = { upperdir: dir('upper'), workdir: dir('work'), target: dir('rootfs') }

// Node's own threads are there before
await Promise.all([1, 2, 3, 4].map(() => stat('/')))
const taken = []
const take = async () => {
  const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] })
  const failed = await new Promise((resolve) => {
    child.once('error', resolve)
    child.once('spawn', () => resolve(undefined))
  })
  if (failed === undefined) taken.push(child)
  else if (failed.code !== 'EAGAIN') throw failed
  return failed === undefined
}
const free = async (count) => {
  await Promise.all(taken.splice(0, count).map(async (child) => {
    const exit = once(child, 'exit')
    child.stdin.end()
    await exit
  }))
}
const leave = async (count) => {
  while (await take());
  await free(count)
}
const settled = async (value, wanted) => {
  for (let i = 0; i < 200 && value() > wanted; i++) await sleep(10)
  return value()
}
const owned = () => readdirSync('/proc/self/task').filter((tid) => {
  try { return readFileSync('/proc/self/task/' + tid + '/comm', 'utf8').startsWith('ofd-') } catch { return false }
}).length
const fds = () => readdirSync('/proc/self/fd').flatMap((fd) => {
  try { return [readlinkSync('/proc/self/fd/' + fd)] } catch { return [] }
}).filter((link) => !/^(pipe|socket|anon_inode):|^\\/dev\\/null$/.test(link)).length
const mounts = () => readFileSync('/proc/self/mountinfo', 'utf8').split('\\n').length

const operations = {
  async mount(mounter) {
    const rootfs = await mounter.mount({ lowerdir, idmap: idmap?.(0), ...upper })
    return () => rootfs.unmount()
  },
  async mountSync(mounter) {
    const rootfs = mounter.mountSync({ lowerdir, idmap: idmap?.(0), ...upper })
    return () => rootfs.unmount()
  },
  async stack(mounter) {
    const stack = await mounter.open({ lowerdir, idmap: idmap?.(0) })
    return () => stack.close()
  },
  ...(idmap && {
    async 'a mapping of its own'(mounter, stack) {
      const rootfs = await stack.mount({ ...upper, idmap: idmap(1) })
      return () => rootfs.unmount()
    },
  }),
  ...(${JSON.stringify(rung !== 'classic')} && {
    async 'inside a namespace'(mounter) {
      const target = { path: upper.target, mountNamespace: '/proc/self/ns/mnt' }
      const rootfs = await mounter.mount({ lowerdir, idmap: idmap?.(0), target })
      return () => rootfs.unmount()
    },
  }),
  ...(${JSON.stringify(!isStaged(rung))} && {
    async bind(mounter) {
      const mount = await mounter.mountBind({ source: lowerdir[0], target: upper.target })
      return () => mount.unmount()
    },
  }),
}
const seen = { places: {}, errors: [], problems: [] }
const problem = (text) => seen.problems.push(text)
for (const [name, run] of Object.entries(operations)) {
  let places = 0
  for (let isDone = false; !isDone && places < ${enough}; places++) {
    const [threads, mounted] = [owned(), mounts()]
    const mounter = new Mounter({ rung: ${JSON.stringify(rung)}, threads: 2, reapers: 2 })
    const stack = name === 'a mapping of its own' && await mounter.open({ lowerdir, idmap: idmap(0) })
    const open = fds()
    await leave(places)
    try {
      const undo = await run(mounter, stack)
      isDone = true
      await free(${enough})
      await undo()
    } catch ({ code, syscall, call, hint, stack: where }) {
      seen.errors.push({ code, syscall, call, hint })
      if (code !== 'EAGAIN') problem(name + ': ' + where)
      await free(${enough})
      await mounter.trim()
      const opened = await settled(fds, open)
      if (opened > open) problem(name + ' with ' + places + ': fds ' + open + ' ' + opened)
      if (mounts() !== mounted) problem(name + ': mounts')
      await (await run(mounter, stack))()
    }
    if (stack) await stack.close()
    await mounter.close()
    const left = await settled(owned, threads) - threads
    if (left > 0) problem(name + ' with ' + places + ' leaves ' + left + ' threads')
  }
  seen.places[name] = places - 1
}
await free(taken.length)
console.log(JSON.stringify(seen))
`

for (const way of ways) {
  t.test(way.rung, all(privileged, programs('prlimit')), async (t) => {
    const area = scratch(t)
    const own = area.mkdir('own')
    const child = await userNamespace(t, mapping(100_000))
    const file = area.path('script.mjs')
    writeFileSync(file, script(way, own))
    const command = `mount -t tmpfs own ${own}; exec prlimit --nproc=${limit} '${process.execPath}' '${file}'`
    const seen: Seen = JSON.parse(child.sh(`unset NODE_OPTIONS; unshare -m sh -ec "${command}"`))
    t.same(seen.problems, [])
    for (const { syscall, call, hint } of seen.errors) {
      t.match(syscall, /^(pthread_create|userns)$/, call)
      t.match(hint, /^the limit of processes and threads is reached \(ulimit -u, pids\.max/, call)
    }
    const hasUserns = seen.errors.some(({ syscall }) => syscall === 'userns')
    t.equal(hasUserns, way.idmap !== undefined)
    // threads of both pools, and what makes a user namespace; 8 more go to other mount namespaces
    const { mount, mountSync, stack } = seen.places
    t.same([mount, mountSync, stack], Array(3).fill(way.idmap ? 5 : 4))
  })
}
