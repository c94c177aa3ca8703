/**
 * A layer, or the directory above it, that becomes a symbolic link which leads outside while it is mounted: the mount fails,
 * or shows the layers that the stack has opened.
 */
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type LayerStack, Mounter, type Rootfs, type StackMountOptions } from '../../lib/index.js'
import { privileged } from '../support/needs.js'
import { type Way, ways } from '../support/rungs.js'
import { read, type Scratch, scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'
import { type Swap, swapOf, sweepSwaps } from './held-swaps.js'

const count = 3

const verify = async (rootfs: Rootfs): Promise<void> => {
  const shows = (name: string) => read(rootfs.path, name)[0]
  const found = readdirSync(rootfs.path).sort().join()
  const [each, inside] = [shows('each'), shows('link/from-0')]
  await rootfs.unmount()
  const wanted = ['dir', 'each', 'link', ...Array.from({ length: count }, (_, i) => `only-${i}`)].join()
  if (found !== wanted || each !== 'layer 0' || inside !== 'layer 0')
    throw new Error(`it shows ${found}, ${each}`)
}

const prepare = (area: Scratch) => {
  const lowerdir = area.layers(count)
  // within the rootfs links are followed, whatever is so of the trees below it
  symlinkSync('dir', join(lowerdir[1]!, 'link'))
  const outside = area.mkdir('outside')
  mkdirSync(join(outside, 'fs'))
  writeFileSync(join(outside, 'fs/secret'), 'of the host')
  const swaps: Swap[] = []
  for (const [i, dir] of lowerdir.entries()) {
    const above = join(dir, '..')
    symlinkSync(join(outside, 'fs'), area.path(`link-${i}`))
    symlinkSync(outside, area.path(`above-${i}`))
    swaps.push(swapOf(`layer ${i}`, dir, area.path(`link-${i}`)))
    swaps.push(swapOf(`above layer ${i}`, above, area.path(`above-${i}`)))
  }
  return { lowerdir, outside: [outside], swaps }
}

interface Kind {
  readonly name: string
  readonly maxLayerFds?: number
  readonly options: (area: Scratch) => StackMountOptions
  readonly only?: (way: Way) => boolean
}

const kinds: readonly Kind[] = [
  { name: 'kept fds', options: (area) => area.container('c') },
  { name: 'beyond maxLayerFds', maxLayerFds: 0, options: (area) => area.container('c') },
  {
    name: 'a mapping of its own',
    options: (area) => ({ ...area.container('c'), idmap: mapping(300_000) }),
    only: ({ idmap }) => idmap !== undefined,
  },
  {
    name: 'a mapping of its own, beyond maxLayerFds',
    maxLayerFds: 0,
    options: (area) => ({ ...area.container('c'), idmap: mapping(300_000) }),
    only: ({ idmap }) => idmap !== undefined,
  },
]

/** Mounts of an open stack: nothing that happens to its names then decides anything. */
export const sweepLayers = (): void => {
  for (const way of ways) {
    t.test(`layers, ${way.rung}`, privileged, async (t) => {
      for (const { name, maxLayerFds, options, only } of kinds) {
        if (only && !only(way)) continue
        await t.test(name, async (t) => {
          const area = scratch(t)
          const { lowerdir, outside, swaps } = prepare(area)
          const fds = maxLayerFds === undefined ? {} : { maxLayerFds }
          const mounter = new Mounter({ rung: way.rung, threads: 1, reapers: 1, ...fds })
          const at = options(area)
          let stack: LayerStack
          await sweepSwaps(t, {
            name: `${way.rung}, ${name}`,
            swaps,
            outside,
            async before() {
              stack = await mounter.open({ lowerdir, idmap: way.idmap })
              // closes in the background are no calls of the run
              await mounter.idle()
            },
            run: async () => verify(await stack.mount(at)),
            async after() {
              await stack.close()
              await mounter.idle()
              return []
            },
          })
          await mounter.close()
        })
      }
    })
  }
}
