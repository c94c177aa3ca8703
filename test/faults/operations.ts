/**
 * What is swept: rootfs of every kind on a rung, binds and tmpfs, and what is done with them afterwards.
 *
 * By the promise forms, and with a few errnos for each call by the Sync forms and `mountMany`, which run the same
 * programs: on the calling thread those that change nothing of it, several at once, and what they have made already
 * when one fails.
 */
import { closeSync, lstatSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import {
  LayerStack,
  type Mounter,
  type MounterOptions,
  MountGroup,
  type OverlayMountOptions,
  type Rootfs,
  type RungName,
} from '../../lib/index.js'
import { isStaged } from '../../lib/overlay/choose.js'
import type { Container } from '../support/container.js'
import { imagesOf } from '../support/images.js'
import { isBelow } from '../support/mountinfo.js'
import { setXattrs, type Way } from '../support/rungs.js'
import type { Scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'
import type { Keep, Operation } from './sweep.js'

/** Throws unless a directory shows the layers; by few calls, since each is asked about. */
const verify = (path: string, shift = 0, layers = 2): void => {
  const names = ['dir', 'each', ...Array.from({ length: layers }, (_, i) => `only-${i}`)]
  const lowest = lstatSync(`${path}/only-${layers - 1}`)
  const found = [readdirSync(path).sort(), readFileSync(`${path}/each`, 'utf8'), lowest.uid, lowest.gid]
  const wanted = [names, 'layer 0', shift, shift]
  if (String(found) !== String(wanted)) throw new Error(`wrong contents: ${found}`)
}

const unmount = (made: { unmount(): Promise<void> }): Promise<void> => made.unmount()
const unmountSync = (made: { unmountSync(): void }): void => made.unmountSync()

/** What is in a directory; it is empty then. */
const emptied = (dir: string) => (): string[] =>
  readdirSync(dir).map((name) => {
    rmSync(`${dir}/${name}`, { recursive: true })
    return `${name} in ${dir}`
  })

/** Everything that rungs do. */
export const rungOperations = (
  area: Scratch,
  { rung, idmap, shift }: Way,
  container: Container,
): Operation[] => {
  const lowerdir = area.layers(2)
  setXattrs(lowerdir[0] as string, { 'trusted.faults': 'top' })
  const lone = area.layers(1, { below: 'lone' })
  const { images } = isStaged(rung) ? { images: [] } : imagesOf(area, lowerdir)
  const long = area.layers(2, { below: `${'d'.repeat(200)}/${'e'.repeat(200)}` })
  const { upperdir, workdir, target } = area.container('plain')
  const volatile = area.container('volatile')
  const other = area.container('other')
  const created = area.mkdir('created')
  const fresh = { upperdir: `${created}/upper`, workdir: `${created}/work`, target: `${created}/rootfs` }
  const upper = { upperdir, workdir, target }
  const create = { ...fresh, create: true }
  const whole = container.mounts().length
  const ownIdmap = idmap && mapping(300_000)

  type Run = (mounter: Mounter, keep: Keep) => Promise<void>
  const operation = (
    name: string,
    run: Run,
    rest: Partial<Operation> = {},
    options: MounterOptions = {},
  ) => ({
    name: `${rung}, ${name}`,
    mounter: { rung, ...options },
    run,
    ...rest,
  })
  const mount = (
    name: string,
    options: Partial<OverlayMountOptions>,
    rest: Partial<Operation> = {},
    layers = 2,
  ): Operation =>
    operation(
      name,
      async (mounter, keep) => {
        const rootfs = keep(await mounter.mount({ lowerdir, idmap, ...options }), unmount)
        if (rootfs.namespaceFd === undefined) verify(rootfs.path, shift, layers)
      },
      rest,
    )
  const list = [
    mount('upper', { ...upper, options: { index: 'off' } }),
    mount('created', { ...create, ...(idmap && { upper: 'shifted' as const }) }, { left: emptied(created) }),
    mount('propagation', { target, propagation: 'shared', attributes: { nosuid: true } }),
    mount('clone', { lowerdir: lone, target, propagation: 'shared' }, {}, 1),
    mount('a volatile one again', { ...volatile, options: { volatile: 'reset' } }),
    operation('stack', async (mounter, keep) => {
      const stack = keep(await LayerStack.open({ lowerdir, idmap }, { mounter }), (made) => made.close())
      verify(keep(await stack.mount(upper), unmount).path, shift)
      const own = { ...other, ...(ownIdmap && { idmap: ownIdmap }) }
      verify(keep(await stack.mount(own), unmount).path, ownIdmap ? 300_000 : 0)
    }),
  ]
  if (idmap) {
    list.push(mount('upper idmapped', { ...create, upper: 'idmapped' }, { left: emptied(created) }))
    list.push(
      operation('long names', async (mounter, keep) => {
        const layers = { lowerdir: long, idmap: mapping(500_000) }
        const stack = keep(await LayerStack.open(layers, { mounter }), (made) => made.close())
        verify(keep(await stack.mount({ ...upper, idmap }), unmount).path, shift)
      }),
    )
  }
  if (rung !== 'classic') {
    list.push(
      operation('detached, and attached later', async (mounter, keep) => {
        const rootfs = keep(await mounter.mount({ lowerdir, upperdir, workdir, idmap }), unmount)
        verify(rootfs.path, shift)
        await rootfs.attach(target, { propagation: 'shared' })
        verify(target, shift)
      }),
      operation('detached', async (mounter, keep) => {
        verify(keep(await mounter.mount({ lowerdir, upperdir, workdir, idmap }), unmount).path, shift)
      }),
    )
  }
  if (rung !== 'classic') {
    // what is made is made the same way, and attached by the same steps, on the others
    const isWhole = rung === 'direct' || rung === 'staged'
    list.push(
      mount(
        'in another namespace',
        {
          upperdir,
          workdir,
          upper: 'asis',
          target: { path: '/rootfs/made', mountNamespace: container.namespace },
          create: true,
          propagation: 'shared',
        },
        {
          ...(!isWhole && { form: 'inside' }),
          left: () => {
            const there = container.mounts().filter((each) => isBelow(each, '/rootfs'))
            for (const { target } of there) container.sh(`umount -l ${target}`)
            if (container.mounts().length !== whole)
              throw new Error('the container has lost what was its own')
            const found = emptied(`/proc/${container.pid}/root/rootfs`)()
            found.push(...there.map(({ type }) => `${type} in the container`))
            return found
          },
        },
      ),
    )
  }
  if (rung !== 'staged-classic' && rung !== 'classic') {
    list.push(
      operation(
        'by name',
        async (mounter, keep) => {
          const stack = keep(await LayerStack.open({ lowerdir, idmap }, { mounter }), (made) => made.close())
          verify(keep(await stack.mount(upper), unmount).path, shift)
        },
        {},
        { maxLayerFds: 0 },
      ),
    )
  }
  if (!isStaged(rung)) {
    list.push(mount('upper checked', { ...upper, checkUpper: true }))
    list.push(mount('images', { ...upper, lowerdir: images }))
  }
  list.push(
    operation(
      'Sync',
      async (mounter, keep) => {
        const stack = keep(LayerStack.openSync({ lowerdir, idmap }, { mounter }), (made) => made.closeSync())
        verify(keep(stack.mountSync(upper), unmountSync).path, shift)
        const once = keep(
          mounter.mountSync({ lowerdir, idmap, ...other, propagation: 'shared' }),
          unmountSync,
        )
        verify(once.path, shift)
      },
      { form: 'Sync' },
    ),
    operation(
      'many',
      async (mounter, keep) => {
        const stack = keep(await LayerStack.open({ lowerdir, idmap }, { mounter }), (made) => made.close())
        for (const made of await stack.mountMany([upper, other])) verify(keep(made, unmount).path, shift)
      },
      { form: 'many' },
    ),
  )
  return list
}

/** What has nothing to do with rungs of the overlay: by fd, and by mount(2). */
export const otherOperations = (area: Scratch, rung: 'direct' | 'classic'): Operation[] => {
  const source = area.layers(1)[0] as string
  const file = area.path('file')
  writeFileSync(file, 'of the source')
  const lowerdir = area.layers(2)
  const target = area.mkdir('target')
  const elsewhere = area.mkdir('elsewhere')
  const created = area.mkdir('created')
  const idmap = rung === 'classic' ? undefined : mapping()
  const operation = (name: string, run: Operation['run'], rest: Partial<Operation> = {}): Operation => ({
    name: `${rung}: ${name}`,
    mounter: { rung },
    run,
    ...rest,
  })
  const list = [
    operation(
      'bind',
      async (mounter, keep) => {
        const options = { source, target: `${created}/target`, create: true, attributes: { readonly: true } }
        const bind = await mounter.mountBind({ ...options, ...(idmap && { idmap }), propagation: 'shared' })
        keep(bind, unmount)
        verify(bind.path, idmap ? 100_000 : 0, 1)
      },
      { left: emptied(created) },
    ),
    operation(
      'bind of a file',
      async (mounter, keep) => {
        const bind = await mounter.mountBind({ source: file, target: `${created}/file`, create: true })
        keep(bind, unmount)
        if (readFileSync(bind.path, 'utf8') !== 'of the source') throw new Error('another file')
      },
      { left: emptied(created) },
    ),
    operation(
      'tmpfs, and its changes',
      async (mounter, keep) => {
        const options = { target: `${created}/tmpfs`, create: true, options: { mode: 0o700 } }
        const tmpfs = keep(await mounter.mountTmpfs({ ...options, propagation: 'shared' }), unmount)
        await tmpfs.setAttributes({ nosuid: true })
        await tmpfs.setPropagation('private')
        await tmpfs.reconfigure({ size: 1 << 20 })
        if ((statSync(tmpfs.path).mode & 0o7777) !== 0o700) throw new Error('another mode')
      },
      { left: emptied(created) },
    ),
    operation('group', async (mounter, keep) => {
      const group = keep(await MountGroup.open(target, { mounter }), unmount)
      const rootfs = keep(await mounter.mount({ lowerdir, target: group.target('one') }), unmount)
      verify(rootfs.path)
    }),
    operation('opened again, and found', async (mounter, keep) => {
      let owner: Rootfs = await mounter.mount({ lowerdir, target })
      keep(owner, () => owner.unmount())
      const json = JSON.parse(JSON.stringify(owner))
      const again = await mounter.openRootfs(json)
      owner.release()
      owner = again
      verify(owner.path)
      await mounter.reconcile(area.dir)
    }),
  ]
  if (rung !== 'classic') {
    list.push(
      operation('moved, and below each other', async (mounter, keep) => {
        const outer = keep(await mounter.mountTmpfs({ target, options: { mode: 0o755 } }), unmount)
        const into = { mount: outer, path: 'a/b' }
        const inner = keep(await mounter.mountBind({ source, target: into, create: true }), unmount)
        verify(`${target}/a/b`, 0, 1)
        await inner.moveTo(elsewhere)
        verify(elsewhere, 0, 1)
      }),
      operation('taken over as an fd', async (mounter, keep) => {
        const fd = (await mounter.mount({ lowerdir })).release() as number
        // what is closed in the background is on the same threads
        await mounter.idle()
        let taken: Rootfs | undefined
        try {
          taken = await mounter.takeRootfs(fd)
        } finally {
          // it is the caller's as long as it was not taken
          if (taken === undefined) closeSync(fd)
        }
        verify(keep(taken, unmount).path)
      }),
    )
  }
  return list
}

/** `auto`: what a fault at a step of the first rung leads to. */
export const autoOperations = (area: Scratch): Operation[] => {
  const lowerdir = area.layers(2)
  const { upperdir, workdir, target } = area.container('auto')
  const upper = { upperdir, workdir }
  const auto = (
    name: string,
    first: RungName,
    options: Partial<OverlayMountOptions>,
    shift = 0,
  ): Operation => ({
    name: `auto, ${name}`,
    mounter: { rung: 'auto' },
    form: `auto, ${name}`,
    first,
    async run(mounter, keep) {
      const rootfs = await mounter.mount({ lowerdir, ...upper, ...options })
      verify(keep(rootfs, unmount).path, shift)
    },
  })
  return [
    auto('plain', 'direct', { target, propagation: 'shared' }),
    auto('detached', 'direct', {}),
    auto('idmapped', 'detached-tree', { target, idmap: mapping(), upper: 'shifted' }, 100_000),
  ]
}
