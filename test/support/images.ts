/** Images of erofs for tests, made by mkfs.erofs(1) (Debian's erofs-utils). */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import type { ImageLayer } from '../../lib/index.js'
import { type Needs, programs } from './needs.js'
import type { Scratch } from './scratch.js'

export const hasMkfsErofs: Needs = programs('mkfs.erofs')

/** Makes an image of a directory's tree; answers the file, which may not be on a tmpfs if it is to be mounted. */
export const erofsImage = (file: string, dir: string, ...options: readonly string[]): string => {
  const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`
  execFileSync('mkfs.erofs', ['-d0', '--quiet', ...options, file, dir], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, PATH },
  })
  return file
}

/** Each directory as an image, on an ext4 of its own. */
export const imagesOf = (area: Scratch, layers: readonly string[], disk = area.ext4('disk')) => ({
  disk,
  images: layers.map((dir, i): ImageLayer & { image: string } => ({
    image: erofsImage(join(disk, `${i}.erofs`), dir),
  })),
})
