/**
 * A filesystem of the upper that is full: of blocks or of inodes, on tmpfs and ext4. A mount is made with nothing free,
 * with one more block or inode each time, until it goes well. Until then it is one error that says so, what was made is
 * gone again, and the same mount is made as soon as there is room.
 */
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import t, { type Test } from 'tap'
import { type LayerStack, Mounter, type StackMountOptions } from '../../lib/index.js'
import { watch } from '../support/left.js'
import { privileged } from '../support/needs.js'
import { forms, ways } from '../support/rungs.js'
import { read, type Scratch, scratch } from '../support/scratch.js'

/** What runs out. */
interface Room {
  readonly name: string
  readonly dir: string
  /** so many units are free, and no more */
  leave(free: number): void
  /** most of it is free */
  empty(): void
}

const isFull = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOSPC'

const tmpfs = (area: Scratch, name: string, options: string): string => {
  const dir = area.mkdir(name)
  execFileSync('mount', ['-n', '-t', 'tmpfs', '-o', `mode=755,${options}`, name, dir])
  return dir
}

/** By files of one unit each. */
const byFiles = (name: string, dir: string, bytes: number): Room => {
  mkdirSync(`${dir}/filler`)
  const made: string[] = []
  return {
    name,
    dir,
    leave(free) {
      try {
        for (let i = made.length; ; i++) {
          const file = `${dir}/filler/${i}`
          made.push(file)
          writeFileSync(file, Buffer.alloc(bytes))
        }
      } catch (error) {
        if (!isFull(error)) throw error
        rmSync(made.pop() as string, { force: true })
      }
      for (const file of made.splice(made.length - free, free)) rmSync(file)
    },
    empty() {
      for (const file of made.splice(0)) rmSync(file)
    },
  }
}

/** By one file, which is cut by blocks: what is written down of many is more than they are. */
const byLength = (name: string, dir: string, block: number): Room => {
  const fd = openSync(`${dir}/filler`, 'w')
  const unit = Buffer.alloc(block, 1)
  const fill = (): number => {
    let size = 0
    for (;;) {
      try {
        writeSync(fd, unit, 0, block, size)
        size += block
        // blocks are taken when it is written back
        if (size % (64 * block) === 0) fsyncSync(fd)
      } catch (error) {
        if (!isFull(error)) throw error
        fsyncSync(fd)
        return size
      }
    }
  }
  return {
    name,
    dir,
    leave(free) {
      ftruncateSync(fd, 0)
      fsyncSync(fd)
      ftruncateSync(fd, fill() - free * block)
      fsyncSync(fd)
    },
    empty() {
      ftruncateSync(fd, 0)
      fsyncSync(fd)
      closeSync(fd)
    },
  }
}

const hint =
  /the file system of upperdir is full( \(\d+ blocks and \d+ inodes are free\))?(; nothing was mounted)?$/
/** More than any of them takes. */
const enough = 40

const sweep = async (
  t: Test,
  mounter: Mounter,
  stack: LayerStack,
  room: Room,
  what: string,
  options: StackMountOptions,
): Promise<void> => {
  const problems: string[] = []
  const { upperdir, workdir, target } = options as { upperdir: string; workdir: string; target: string }
  const clear = () => {
    for (const dir of [upperdir, workdir, target]) {
      rmSync(dir, { recursive: true, force: true })
      if (!options.create) mkdirSync(dir)
    }
  }
  let free = 0
  for (let isDone = false; !isDone && free < enough && problems.length === 0; free++) {
    for (const form of forms) {
      const left = watch()
      clear()
      room.leave(free)
      try {
        const rootfs = await form.stackMount(stack, options)
        isDone = true
        if (read(target, 'each')[0] !== 'layer 0') problems.push('no layers')
        await rootfs.unmount()
        await mounter.idle()
      } catch (error) {
        isDone = false
        const { code, hint: found } = error as { code: string; hint?: string }
        if (!/^(ENOSPC|EROFS)$/.test(code) || !hint.test(found ?? ''))
          problems.push(String((error as Error).stack))
        const made = [upperdir, workdir, target].filter((dir) => existsSync(dir))
        if (options.create) problems.push(...made.map((dir) => `${dir} is left, with ${readdirSync(dir)}`))
        problems.push(...(await left()))
        // what the kernel may have left in work must not be in the way
        room.leave(enough)
        const rootfs = await form.stackMount(stack, options)
        await rootfs.unmount()
        await mounter.idle()
      }
    }
  }
  t.same(problems, [], `${what}, ${free - 1} free`)
  t.ok(free < enough, `${what}: ${free - 1} are enough`)
}

for (const { rung, idmap } of ways) {
  t.test(rung, privileged, async (t) => {
    const area = scratch(t)
    const rooms = [
      byFiles('inodes of tmpfs', tmpfs(area, 'inodes', 'nr_inodes=100'), 0),
      byFiles('blocks of tmpfs', tmpfs(area, 'blocks', 'size=256k'), 4096),
      byLength('blocks of ext4', area.ext4('ext4', 1), 1024),
    ]
    const left = watch()
    const mounter = new Mounter({ rung, threads: 1, reapers: 1 })
    const stack = await mounter.open({ lowerdir: area.layers(2), idmap })
    for (const room of rooms) {
      const at = {
        upperdir: `${room.dir}/upper`,
        workdir: `${room.dir}/work`,
        target: `${area.dir}/rootfs`,
      }
      for (const create of [true, false]) {
        for (const index of ['off', 'on'] as const) {
          const what = `${room.name}, ${create ? 'create, ' : ''}index ${index}`
          await sweep(t, mounter, stack, room, what, { ...at, create, options: { index } })
        }
      }
      room.empty()
    }
    await stack.close()
    await mounter.close()
    t.same(await left({ threads: true }), [])
    for (const name of ['inodes', 'blocks']) execFileSync('umount', ['-n', area.path(name)])
  })
}
