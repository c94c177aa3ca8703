/**
 * Places to mount on: a tmpfs in the test's own mount namespace, and in it layers with files that tell where
 * they come from, directories of a container, images of ext4. Undone in teardown, which fails the test when
 * it left a mount behind, or a loop device that something still holds.
 *
 * The mounting here is done by util-linux, so that a fault in the addon is not in the scaffold too.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isBelow, mounts } from './mountinfo.js'
import { isPrivileged } from './needs.js'

/** The part of tap's Test that is used here. */
export interface Teardown {
  teardown(undo: () => void | Promise<void>): void
}

export interface Container {
  readonly upperdir: string
  readonly workdir: string
  readonly target: string
}

export interface LayersOptions {
  /** the directory, below the scratch area, that is to hold `<i>/fs`; 'layers' unless told */
  readonly below?: string
  /** an existing directory instead of the scratch area, for another filesystem */
  readonly base?: string
}

export interface Scratch {
  readonly dir: string
  path(...names: string[]): string
  /** makes it, with its parents */
  mkdir(...names: string[]): string
  /**
   * `<below>/<i>/fs` for i from 0, which is the topmost: the paths are in lowerdir's order. Each has `only-<i>`,
   * the file `each` that every layer has, and `dir/from-<i>`; what is in a file is `layer <i>`.
   */
  layers(count: number, options?: LayersOptions): string[]
  /** upper, work and target of one container, made */
  container(name: string, base?: string): Container
  /** an ext4 filesystem of its own on a loop device; the directory where it is mounted */
  ext4(name: string, megabytes?: number): string
  /** whether the loop device that `ext4` made for a directory is free by now, or is soon */
  isFreed(dir: string): Promise<boolean>
}

export interface Image {
  readonly dir: string
  readonly image: string
  readonly device: string
}

const command = (program: string, ...args: string[]): void => {
  const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, PATH } })
}

/** The device that is mounted at a directory. */
export const deviceOf = (dir: string): string =>
  mounts()
    .filter(({ target }) => target.equals(Buffer.from(dir)))
    .at(-1)
    ?.source.toString() ?? ''

/** What a loop device reads from; another test may have taken the device since ours was freed. */
const backingFile = (device: string): string => {
  const file = `/sys/block/${basename(device)}/loop/backing_file`
  try {
    return basename(readFileSync(file, 'utf8').trim())
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}

/** A loop device frees itself with its last user (`mount -o loop` sets autoclear). */
export const isFreed = async ({ device, image }: Image, milliseconds = 3000): Promise<boolean> => {
  const end = performance.now() + milliseconds
  while (backingFile(device) === basename(image)) {
    if (performance.now() > end) return false
    await sleep(5)
  }
  return true
}

export const scratch = (t: Teardown): Scratch => {
  if (!isPrivileged) throw new Error('scratch mounts: only in a test that needs `privileged` (needs.ts)')
  const dir = mkdtempSync(join(tmpdir(), 'overlayfd-test-'))
  command('mount', '-n', '-t', 'tmpfs', '-o', 'mode=755', 'overlayfd-test', dir)
  const images: Image[] = []

  t.teardown(async () => {
    const own = new Set([dir, ...images.map((image) => image.dir)])
    const foreign = mounts().filter((mount) => isBelow(mount, dir) && !own.has(mount.target.toString()))
    // lazily takes all that is mounted below along, whatever its name, and even what is in use
    command('umount', '-n', '-l', dir)
    rmdirSync(dir)
    const held: string[] = []
    for (const image of images) if (!(await isFreed(image))) held.push(image.device)
    if (foreign.length > 0) throw new Error(`left mounted: ${foreign.map(({ target }) => target).join(', ')}`)
    if (held.length > 0) throw new Error(`still held after the unmount: ${held.join(', ')}`)
  })

  const path = (...names: string[]): string => join(dir, ...names)
  const mkdir = (...names: string[]): string => {
    mkdirSync(path(...names), { recursive: true })
    return path(...names)
  }
  return {
    dir,
    path,
    mkdir,
    layers(count, { below = 'layers', base = dir } = {}) {
      return Array.from({ length: count }, (_, i) => {
        const layer = join(base, below, String(i), 'fs')
        mkdirSync(join(layer, 'dir'), { recursive: true })
        for (const file of [`only-${i}`, 'each', `dir/from-${i}`])
          writeFileSync(join(layer, file), `layer ${i}`)
        return layer
      })
    },
    container(name, base = dir) {
      const at = (part: string): string => {
        mkdirSync(join(base, 'containers', name, part), { recursive: true })
        return join(base, 'containers', name, part)
      }
      return { upperdir: at('upper'), workdir: at('work'), target: at('rootfs') }
    },
    ext4(name, megabytes = 16) {
      const image = path(`${name}-${basename(dir)}.img`)
      command('truncate', '-s', `${megabytes}M`, image)
      command('mkfs.ext4', '-q', '-F', '-m', '0', image)
      const at = mkdir(name)
      command('mount', '-n', '-o', 'loop', image, at)
      images.push({ dir: at, image, device: deviceOf(at) })
      return at
    },
    isFreed(at) {
      const image = images.find(({ dir }) => dir === at)
      if (image === undefined) throw new Error(`${at} is not what ext4 made`)
      return isFreed(image)
    },
  }
}

/** What the files made by `layers` say when they are read through `dir`, by name; missing ones are null. */
export const read = (dir: string, ...names: string[]): (string | null)[] =>
  names.map((name) => {
    try {
      return readFileSync(join(dir, name), 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
  })
