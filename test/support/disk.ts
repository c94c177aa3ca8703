/**
 * A file system of its own, mounted for one case at a time: when it is taken away, its loop device tells whether
 * anything on the machine still holds it — a namespace, a tree, a superblock, attached or not.
 */
import { execFileSync } from 'node:child_process'
import { deviceOf, isFreed, type Scratch } from './scratch.js'

export interface Disk {
  readonly dir: string
  mount(): void
  /** takes it away; what still holds it, in words */
  unmount(): Promise<string>
}

const command = (program: string, ...args: string[]): void => {
  const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, PATH } })
}

/** Programs that it takes, for `needs`. */
export const diskPrograms = ['mkfs.ext4'] as const

export const makeDisk = (area: Scratch): Disk => {
  const [image, dir] = [area.path(`disk-${process.pid}.img`), area.mkdir('disk')]
  command('truncate', '-s', '64M', image)
  command('mkfs.ext4', '-q', '-F', '-m', '0', '-O', '^has_journal', image)
  let device = ''
  return {
    dir,
    mount() {
      // the device goes with its last user, also where this process is killed
      command('mount', '-n', '-o', 'loop', image, dir)
      device = deviceOf(dir)
    },
    async unmount() {
      try {
        command('umount', '-n', dir)
      } catch (error) {
        command('umount', '-n', '-l', dir)
        return String(error)
      }
      return (await isFreed({ dir, image, device }, 20_000)) ? '' : `${device} is in use`
    },
  }
}
