/**
 * A caller that changes its own mount namespace (unshare and setns of its JavaScript thread): what it asks for is done
 * in the namespace in which it asked, or refused, and never anywhere else.
 *
 * The caller is a child process. Its first namespace is the test's own, whose `/` is private or shared; the other one
 * is a private copy.
 */
import t from 'tap'
import { dist, runModule } from '../support/child.js'
import { mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { propagations, withPropagation } from '../support/peers.js'
import { ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'

const head = `
  import { openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
  import { CLONE_NEWNS, MS_PRIVATE, MS_REC, mount, setns, unshare } from ${JSON.stringify(dist('sys.js'))}
  const [text] = process.argv.slice(1)
  const { lowerdir, idmap, rung, targets } = JSON.parse(text)
  const own = () => openSync('/proc/thread-self/ns/mnt')
  const go = (namespace) => setns(namespace, CLONE_NEWNS)
  const home = own()
  const leave = () => {
    unshare(CLONE_NEWNS)
    mount(null, '/', null, [MS_REC, MS_PRIVATE], null)
    return own()
  }
  const overlaysOf = (file) => readFileSync(file, 'utf8').split('\\n')
    .filter((line) => / - overlay /.test(line)).map((line) => line.split(' ')[4])
    .filter((target) => targets.includes(target)).map((target) => targets.indexOf(target)).join()
  const said = []
  const say = (what, value) => said.push([what, value])
  const codeOf = (promise) => promise.then(() => 'done', ({ code, message }) => code + ' ' + message)
  const threadsIn = (namespace) => readdirSync('/proc/self/task').filter((tid) => {
    try {
      return readFileSync('/proc/self/task/' + tid + '/comm', 'utf8').startsWith('ofd-') &&
        readlinkSync('/proc/self/task/' + tid + '/ns/mnt') === readlinkSync('/proc/self/fd/' + namespace)
    } catch { return false }
  }).length
  // a thread that was joined is in /proc a moment longer
  const gone = async (namespace) => {
    for (let i = 0; i < 200 && threadsIn(namespace) > 0; i++) await new Promise((done) => setTimeout(done, 10))
    return threadsIn(namespace)
  }
`

const before = `${head}
  const there = leave()
  const { Mounter } = await import(${JSON.stringify(dist('index.js'))})
  const mounter = new Mounter({ rung })
  const rootfs = await mounter.mount({ lowerdir, idmap, target: targets[0] })
  say('there', overlaysOf('/proc/thread-self/mountinfo'))
  go(home)
  say('at home', overlaysOf('/proc/thread-self/mountinfo'))
  say('from home', await codeOf(rootfs.unmount()))
  go(there)
  say('from there', await codeOf(rootfs.unmount()))
  await mounter.close()
  say('threads', await gone(there) + await gone(home))
  console.log(JSON.stringify(said))
`

const moves = `${head}
  import { Mounter } from ${JSON.stringify(dist('index.js'))}
  const mounter = new Mounter({ rung, threads: 1, reapers: 1 })
  const there = leave()
  const look = (back) => {
    const both = [home, there].map((namespace) => {
      go(namespace)
      return overlaysOf('/proc/thread-self/mountinfo')
    })
    go(back)
    return both
  }
  const options = { lowerdir, idmap }

  // after the import, and back again
  say('a new namespace after the import', [await codeOf(mounter.mount({ ...options, target: targets[0] })), ...look(there)])
  go(home)
  const stack = await mounter.open(options)
  const first = await stack.mount({ target: targets[1] })
  say('back, between two mounts', look(home))

  // after a stack was opened
  go(there)
  say('the stack, elsewhere', await codeOf(stack.mount({ target: targets[2] })))
  say('the stack, elsewhere, many', await codeOf(stack.mountMany([{ target: targets[2] }])))
  say('nothing has changed', look(there))

  // the threads that were left
  say('threads at home', threadsIn(home) > 0)
  await mounter.trim()
  say('threads at home after trim', await gone(home))
  say('threads there after trim', threadsIn(there) > 0)
  go(home)
  const again = await stack.mount({ target: targets[2] })
  say('back again', look(home))
  await again.unmount()
  await first.unmount()

  // while a call is under way
  const opening = mounter.open(options)
  go(there)
  const late = await opening
  say('opened while the caller left', await codeOf(late.mount({ target: targets[2] })))
  go(home)
  const mine = await late.mount({ target: targets[2] })
  say('it is of the namespace where it was asked for', look(home))
  await mine.unmount()
  const mounting = mounter.mount({ ...options, target: targets[2] })
  go(there)
  const moved = await mounting.catch(({ code, message }) => code + ' ' + message)
  say('mounted while the caller left', [typeof moved === 'string' ? moved : 'done', ...look(there)])
  go(home)
  if (typeof moved !== 'string') await moved.unmount()

  // an attach that has to wait for its turn
  const detached = await late.mount({}).catch(() => undefined)
  if (detached) {
    const missing = codeOf(detached.attach('/nonexistent/target'))
    const waiting = codeOf(detached.attach(targets[2]))
    go(there)
    say('attach', [(await missing).slice(0, 6), await waiting, ...look(there)])
    await detached.unmount()
    go(home)
  }
  await late.close()

  // relative paths
  process.chdir(targets[3])
  say('Node’s', process.cwd())
  go(there)
  say('Node remembers', process.cwd() === targets[3] && readlinkSync('/proc/thread-self/cwd') === '/')
  const relative = await mounter.mount({ ...options, target: targets[3].slice(1) }).catch(({ code, message }) => code + ' ' + message)
  say('relative, after setns', [typeof relative === 'string' ? relative : relative.path === targets[3], ...look(there)])
  go(there)
  if (typeof relative !== 'string') await relative.unmount()
  process.chdir(targets[3] + '/..')
  const name = targets[3].slice(targets[3].lastIndexOf('/') + 1)
  const pending = mounter.mount({ ...options, target: './' + name })
  process.chdir('/')
  const resolved = await pending
  say('relative, of the moment of the call', [resolved.path === targets[3], ...look(there)])
  await resolved.unmount()
  go(home)
  await stack.close()
  await mounter.close()
  say('threads', await gone(there) + await gone(home))
  console.log(JSON.stringify(said))
`

const otherStack = /^ERR_INVALID_STATE .*the stack was opened in another mount namespace/
const movedOn = /^ERR_INVALID_STATE .*has left the mount namespace in which the call began/

for (const { rung, idmap } of ways) {
  // where the first namespace is shared makes no difference to how a rung works: two of them show it
  for (const propagation of rung === 'staged' || rung === 'direct' ? propagations : (['private'] as const)) {
    t.test(`${rung}, / ${propagation}`, privileged, async (t) => {
      const area = scratch(t)
      const lowerdir = area.layers(2)
      const targets = ['a', 'b', 'c', 'd'].map((name) => area.mkdir(name))
      const argument = JSON.stringify({ lowerdir, idmap, rung, targets })
      await withPropagation(t, propagation, async (peers) => {
        const asked = async (script: string) => {
          const { stdout, stderr, status } = await runModule(script, [argument])
          t.match({ stderr, status }, { stderr: '', status: 0 })
          return Object.fromEntries(JSON.parse(stdout || '[]'))
        }
        const table = () => [mounts().length, peers.mounts('peer').length, peers.mounts('slave').length]
        const was = table()
        t.match(await asked(before), {
          there: '0',
          'at home': '',
          'from home': 'done',
          'from there': 'done',
          threads: 0,
        })
        t.same(table(), was)
        t.match(await asked(moves), {
          'a new namespace after the import': ['done', '', '0'],
          'back, between two mounts': ['1', '0'],
          'the stack, elsewhere': otherStack,
          'the stack, elsewhere, many': otherStack,
          'nothing has changed': ['1', '0'],
          'threads at home': true,
          'threads at home after trim': 0,
          'threads there after trim': true,
          'back again': ['1,2', '0'],
          'opened while the caller left': otherStack,
          'it is of the namespace where it was asked for': ['2', '0'],
          'mounted while the caller left': ['done', '2', '0'],
          ...(rung !== 'classic' && { attach: ['ENOENT', movedOn, '', '0'] }),
          'Node’s': targets[3],
          'Node remembers': true,
          'relative, after setns': [true, '', '0,3'],
          'relative, of the moment of the call': [true, '', '0,3'],
          threads: 0,
        })
        t.same(table(), was, 'nothing has stayed')
      })
    })
  }
}
