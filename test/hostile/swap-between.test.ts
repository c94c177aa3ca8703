/**
 * A directory above the target that becomes a symbolic link just after mount(2), where all that mount(2) can do next is to
 * look the target up again: strace holds the call back until the names are exchanged. What the link leads to is somebody
 * else's mount, which must neither be changed nor be taken for ours.
 */
import { execFileSync } from 'node:child_process'
import { renameSync, symlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import * as sys from '../../lib/sys.js'
import { dist, run } from '../support/child.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { all, privileged, programs } from '../support/needs.js'
import { scratch } from '../support/scratch.js'

const script = `
import { Mounter } from '${dist('index.js')}'
const [kind, source, second, target] = process.argv.slice(1)
const mounter = new Mounter({ rung: 'classic' })
const makers = {
  overlay: () => mounter.mount({ lowerdir: [source, second], target }),
  clone: () => mounter.mount({ lowerdir: [source], target }),
  bind: () => mounter.mountBind({ source, target, attributes: { readonly: true } }),
  tmpfs: () => mounter.mountTmpfs({ target, propagation: 'unbindable' }),
  group: () => mounter.openGroup(target),
}
const said = {}
try {
  const mount = await makers[kind]()
  said.id = String(mount.mountId)
  await mount.unmount().catch(({ code }) => { said.unmount = code })
} catch ({ code, message }) { said.code = code; said.message = message }
console.log(JSON.stringify(said))
process.exit(0)`

for (const kind of ['overlay', 'clone', 'bind', 'tmpfs', 'group']) {
  t.test(`a ${kind}`, all(privileged, programs('strace')), async (t) => {
    const area = scratch(t)
    const [source, second] = area.layers(2) as [string, string]
    const target = area.mkdir('above/target')
    const theirs = area.mkdir('outside/target')
    execFileSync('mount', ['-n', '-t', 'tmpfs', 'theirs', theirs])
    t.teardown(() => execFileSync('umount', ['-n', theirs]))
    sys.mount(null, theirs, null, [sys.MS_SHARED], null)
    symlinkSync('outside', area.path('link'))
    const at = (dir: string) => mounts().filter((mount) => isBelow(mount, dir))
    const before = at(area.path('outside'))
    const inject = ['-e', 'trace=mount', '-e', 'inject=mount:delay_exit=1000000:when=1']
    const node = [process.execPath, '--input-type=module', '--eval', script]
    const child = run('strace', [
      '-f',
      '-qq',
      '-o',
      '/dev/null',
      ...inject,
      ...node,
      kind,
      source,
      second,
      target,
    ])
    let isDone = false
    const ended = child.then((end) => {
      isDone = true
      return end
    })
    while (at(target).length === 0 && !isDone) await sleep(5)
    renameSync(area.path('above'), area.path('away'))
    renameSync(area.path('link'), area.path('above'))
    const { stdout, stderr } = await ended
    t.equal(stderr, '')
    const said = JSON.parse(stdout)
    t.same(at(area.path('outside')), before, 'theirs is as it was')
    const [ours] = at(area.path('away'))
    t.ok(ours, `it is where it was made: ${stdout}`)
    if (kind !== 'group') {
      const { mntIdUnique } = sys.statx(sys.AT_FDCWD, area.path('away/target'), [], [sys.STATX_MNT_ID_UNIQUE])
      t.equal(said.id, String(mntIdUnique), 'the handle is of this mount')
    }
    t.match(said.unmount, /^(EBUSY|EINVAL)$/, 'and does not take theirs for it')
    execFileSync('umount', ['-n', area.path('away/target')])
  })
}
