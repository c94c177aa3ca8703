/**
 * Binds and tmpfs pass from a process that has ended to this one by their JSON: found, changed and unmounted; and what is
 * not as it was written down is told apart as that of a rootfs, and left alone.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { Mount, Mounter, Rootfs } from '../../lib/index.js'
import { dist, runModule } from '../support/child.js'
import { watch } from '../support/left.js'
import { optionsAt } from '../support/mount-forms.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { propagations, withPropagation } from '../support/peers.js'
import { type Scratch, scratch } from '../support/scratch.js'

const sh = (...args: string[]): void => {
  execFileSync(args[0] as string, args.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
}
const at = (dir: string) => mounts().filter((mount) => isBelow(mount, dir))

/** What a killed process has left: a tmpfs, binds of a directory, of a file and of a place on an overlay, one inside. */
const leftBy = async (t: Test, area: Scratch, rung: string): Promise<Record<string, string>> => {
  const [source, file] = [area.mkdir('source'), area.path('source/file')]
  writeFileSync(file, '')
  for (const name of ['tmpfs', 'bind', 'onOverlay']) area.mkdir(name)
  const { stdout, stderr } = await runModule(`
    import { mkdirSync } from 'node:fs'
    import { Mounter } from ${JSON.stringify(dist('index.js'))}
    const [dir, source, file, lowerdir, overlay] = ${JSON.stringify([area.dir, source, file, area.layers(2), area.mkdir('overlay')])}
    const mounter = new Mounter({ rung: '${rung}' })
    await mounter.mount({ lowerdir, target: overlay })
    const tmpfs = await mounter.mountTmpfs({ target: dir + '/tmpfs' })
    const made = {
      tmpfs,
      bind: await mounter.mountBind({ source, target: dir + '/bind', attributes: { nodev: true } }),
      file: await mounter.mountBind({ source: file, target: dir + '/file', create: true }),
      onOverlay: await mounter.mountBind({ source: overlay + '/dir', target: dir + '/onOverlay' }),
      inside: await mounter.mountBind({ source, target: { mount: tmpfs, path: 'in/side' }, create: true }),
    }
    process.stdout.write(JSON.stringify(Object.fromEntries(Object.entries(made).map(([name, mount]) => [name, JSON.stringify(mount)]))), () => process.kill(process.pid, 'SIGKILL'))
  `)
  t.equal(stderr, '')
  return JSON.parse(stdout)
}

/** What is written where ids are used again: the id of mountinfo. */
const oldStyle = (json: string): string => {
  const written = JSON.parse(json) as { target: string; mountId: string }
  return JSON.stringify({ ...written, mountId: String(at(written.target)[0]?.id), unique: false })
}

const openers = [
  ['promise', (json: string) => Mount.open(json)],
  ['Sync', async (json: string) => Mount.openSync(JSON.parse(json))],
] as const

for (const propagation of propagations) {
  for (const rung of ['auto', 'classic']) {
    t.test(`after a kill: ${rung}, / ${propagation}`, privileged, async (t) => {
      const area = scratch(t)
      await withPropagation(t, propagation, async () => {
        for (const [form, open] of openers) {
          const left = watch()
          const json = await leftBy(t, area, rung)
          for (const [name, text] of Object.entries(json).reverse()) {
            const target = name === 'inside' ? area.path('tmpfs/in/side') : area.path(name)
            for (const each of [text, oldStyle(text)]) {
              const mount = await open(each)
              t.equal(mount.path, target, `${form}, ${name}`)
              t.equal(mount.rung, rung === 'auto' ? 'direct' : 'classic')
              t.match(mount.toJSON(), { kind: name === 'tmpfs' ? 'tmpfs' : 'bind', phase: 'attached' })
            }
            await t.rejects(Rootfs.open(text), { code: 'ERR_INVALID_ARG_VALUE', message: /json.kind/ })
            const mount = await open(text)
            await mount.setAttributes({ noexec: true })
            t.match(optionsAt(target)[''], /noexec/)
            if (name === 'bind') t.match(optionsAt(target)[''], /nodev/)
            await mount.unmount()
            t.same(at(target), [])
            await t.rejects(open(text), { name: 'HandoverError', code: 'ERR_OVERLAYFD_MOUNT_GONE' })
          }
          sh('umount', '-n', area.path('overlay'))
          t.same(await left(), [])
        }
      })
    })
  }
}

t.test('what is not as it was written down', privileged, async (t) => {
  const area = scratch(t)
  const mounter = new Mounter()
  const target = area.mkdir('c', 't')
  const source = area.mkdir('source')
  for (const make of [() => mounter.mountTmpfs({ target }), () => mounter.mountBind({ source, target })]) {
    const mount = await make()
    const styles = [JSON.stringify(mount), oldStyle(JSON.stringify(mount))]
    const refused = async (code: string) => {
      for (const json of styles) await t.rejects(Mount.open(json), { code, path: target }, code)
    }
    sh('mount', '-n', '-t', 'tmpfs', 'overlayfd-test', target)
    await refused('ERR_OVERLAYFD_MOUNT_COVERED')
    sh('umount', '-n', target)
    renameSync(area.path('c'), area.path('elsewhere'))
    await refused('ERR_OVERLAYFD_MOUNT_MOVED')
    renameSync(area.path('elsewhere'), area.path('c'))
    t.equal((await Mount.open(styles[0]!)).mountId, mount.mountId)
    await mount.unmount()
    sh('mount', '-n', '-t', 'tmpfs', 'overlayfd-test', target)
    await t.rejects(Mount.open(styles[0]!), { code: 'ERR_OVERLAYFD_PATH_REUSED' })
    sh('umount', '-n', target)
    await refused('ERR_OVERLAYFD_MOUNT_GONE')
    await t.rejects(Mount.open(JSON.stringify(mount)), { code: 'ERR_OVERLAYFD_MOUNT_GONE' })
  }
  const rootfs = await mounter.mount({ lowerdir: area.layers(2), target })
  await t.rejects(Mount.open(JSON.stringify(rootfs)), { code: 'ERR_INVALID_ARG_VALUE', message: /json.kind/ })
  await rootfs.unmount()
  const overlay = await mounter.mount({ lowerdir: area.layers(2), target: area.mkdir('overlay') })
  await mounter.mount({ lowerdir: [`${overlay.path}/dir`], target }).then(async (clone) => {
    await (await Rootfs.open(JSON.stringify(clone))).unmount()
  })
  await overlay.unmount()
  const outer = await mounter.mountTmpfs()
  mkdirSync(`${outer.path}/in`)
  const inside = await mounter.mountTmpfs({ target: { mount: outer, path: 'in' } })
  for (const each of [outer, inside]) {
    await t.rejects(Mount.open(JSON.stringify(each)), { message: /handed over by its fd/ })
  }
  await outer.attach(target)
  const found = await Mount.open(JSON.stringify(inside))
  t.equal(found.path, `${target}/in`)
  await found.unmount()
  await outer.unmount()
  t.same(at(target), [])
  const signal = AbortSignal.abort(new Error('enough'))
  await t.rejects(Mount.open(JSON.stringify(outer), { signal, mounter }), { message: 'enough' })
  await mounter.close()
})
