/**
 * What composefs does: an image of erofs holds the tree and no data, each file of it points into a directory of
 * data (overlay's metacopy and redirect attributes), and the overlay shows the one with the content of the other.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { explain, LayerStack, Mounter } from '../../lib/index.js'
import { erofsImage, hasMkfsErofs } from '../support/images.js'
import { all, privileged } from '../support/needs.js'
import { imageWays, setXattrs } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { kernels } from './kernels.js'

const contents = { 'etc/hosts': 'localhost', 'usr/bin/tool': 'x'.repeat(70_000) }

/** An image of files without content, and the directory that holds it by the digest. */
const composed = (area: Scratch): { image: string; objects: string; disk: string } => {
  const [tree, objects, disk] = [area.mkdir('tree'), area.mkdir('objects'), area.ext4('disk')]
  for (const [name, content] of Object.entries(contents)) {
    const digest = createHash('sha256').update(content).digest('hex')
    const object = join(digest.slice(0, 2), digest.slice(2))
    mkdirSync(join(objects, dirname(object)), { recursive: true })
    writeFileSync(join(objects, object), content)
    mkdirSync(join(tree, dirname(name)), { recursive: true })
    const file = join(tree, name)
    writeFileSync(file, '', { mode: 0o640 })
    truncateSync(file, content.length)
    setXattrs(file, { 'trusted.overlay.metacopy': '', 'trusted.overlay.redirect': `/${object}` })
  }
  return { image: erofsImage(join(disk, 'image'), tree), objects, disk }
}

for (const { rung, idmap, shift } of imageWays) {
  t.test(
    `${rung}: an image without data over a directory of data`,
    all(privileged, hasMkfsErofs),
    async (t) => {
      const area = scratch(t)
      const { image, objects, disk } = composed(area)
      const mounter = new Mounter({ rung })
      const options = { metacopy: 'on', redirect_dir: 'on' } as const
      // the data may be an image too
      for (const data of [objects, { image: erofsImage(join(disk, 'data'), objects) }]) {
        const stack = await LayerStack.open({ lowerdir: [{ image }], datadir: [data], idmap }, { mounter })
        const rootfs = await stack.mount({ ...area.container('c'), options })
        for (const [name, content] of Object.entries(contents)) {
          const file = join(rootfs.path, name)
          t.equal(readFileSync(file, 'utf8'), content, name)
          const { mode, uid, size } = statSync(file)
          t.same([mode & 0o777, uid, size], [0o640, shift, content.length], 'attributes are the image’s')
        }
        t.throws(() => statSync(join(rootfs.path, 'objects')), { code: 'ENOENT' })
        await rootfs.unmount()
        await stack.close()
      }
      await mounter.close()
    },
  )
}

t.test('its plan', async (t) => {
  const { steps } = explain(
    { lowerdir: [{ image: '/i' }], datadir: [{ image: '/d' }], upperdir: '/u', workdir: '/w', target: '/t' },
    { features: kernels['6.18'] },
  )
  const keys = steps.flatMap(({ call, args: [, , key] }) =>
    call === 'fsconfig' && key?.kind === 'text' && /[+]$/.test(String(key.text)) ? [key.text] : [],
  )
  t.same(keys, ['lowerdir+', 'datadir+'])
})
