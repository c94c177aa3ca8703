/**
 * What tests of rungs have in common: the rungs that apply here with what each can do, the promise and the
 * Sync form of each call behind one face, and an image whose merged tree is known.
 */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import {
  type AttachOptions,
  type IdmapOption,
  LayerStack,
  type Mounter,
  type NamespaceTarget,
  type OverlayMountOptions,
  type Rootfs,
  type RungName,
  type StackMountOptions,
  type StackOptions,
  type UnmountOptions,
} from '../../lib/index.js'
import { isStaged } from '../../lib/overlay/choose.js'
import type { PathLike } from '../../lib/path.js'
import type { Scratch } from './scratch.js'
import { mapping } from './userns.js'

/** A rung, forced, and the mapping that it is for. */
export interface Way {
  readonly rung: RungName
  readonly idmap: IdmapOption | undefined
  /** what is added to an id on disk */
  readonly shift: number
}

export const ways: readonly Way[] = [
  { rung: 'detached-tree', idmap: mapping(), shift: 100_000 },
  { rung: 'direct', idmap: undefined, shift: 0 },
  { rung: 'staged', idmap: mapping(), shift: 100_000 },
  { rung: 'staged-classic', idmap: mapping(), shift: 100_000 },
  { rung: 'classic', idmap: undefined, shift: 0 },
]

/** Those that take erofs images as layers. */
export const imageWays = ways.filter(({ rung }) => !isStaged(rung))

/** Each call in one of its two forms. */
export interface Form {
  readonly name: 'promise' | 'Sync'
  mount(mounter: Mounter, options: OverlayMountOptions): Promise<Rootfs>
  open(mounter: Mounter, options: StackOptions): Promise<LayerStack>
  stackMount(stack: LayerStack, options: StackMountOptions): Promise<Rootfs>
  close(stack: LayerStack): Promise<void>
  attach(rootfs: Rootfs, target: PathLike | NamespaceTarget, options?: AttachOptions): Promise<void>
  unmount(rootfs: Rootfs, options?: UnmountOptions): Promise<void>
}

export const forms: readonly Form[] = [
  {
    name: 'promise',
    mount: (mounter, options) => mounter.mount(options),
    open: (mounter, options) => LayerStack.open(options, { mounter }),
    stackMount: (stack, options) => stack.mount(options),
    close: (stack) => stack.close(),
    attach: (rootfs, target, options) => rootfs.attach(target, options),
    unmount: (rootfs, options) => rootfs.unmount(options),
  },
  {
    name: 'Sync',
    mount: async (mounter, options) => mounter.mountSync(options),
    open: async (mounter, options) => LayerStack.openSync(options, { mounter }),
    stackMount: async (stack, options) => stack.mountSync(options),
    close: async (stack) => stack.closeSync(),
    attach: async (rootfs, target, options) => rootfs.attachSync(target, options),
    unmount: async (rootfs, options) => rootfs.unmountSync(options),
  },
]

export type Xattrs = Readonly<Record<string, Uint8Array | string>>

/** Python is there wherever the addon was built, setfattr(1) is not. */
export const setXattrs = (path: string, xattrs: Xattrs): void => {
  const pairs = Object.entries(xattrs).flatMap(([name, value]) => [name, Buffer.from(value).toString('hex')])
  const script =
    'import os,sys;a=sys.argv\nfor i in range(2,len(a),2):os.setxattr(a[1],a[i],bytes.fromhex(a[i+1]),follow_symlinks=False)'
  execFileSync('python3', ['-c', script, path, ...pairs])
}

export const whiteout = (path: string): void => {
  execFileSync('mknod', [path, 'c', '0', '0'])
}

/** Four layers with everything that merging is about. */
export const image = (area: Scratch): string[] => {
  const lowerdir = area.layers(4)
  const [, one, two, three] = lowerdir as [string, string, string, string]
  writeFileSync(join(three, 'gone'), 'deleted by layer 1')
  whiteout(join(one, 'gone'))
  mkdirSync(join(three, 'opaque'))
  writeFileSync(join(three, 'opaque/old'), 'hidden by layer 1')
  mkdirSync(join(one, 'opaque'))
  writeFileSync(join(one, 'opaque/new'), 'layer 1')
  setXattrs(join(one, 'opaque'), { 'trusted.overlay.opaque': 'y' })
  writeFileSync(join(three, 'swap'), 'a file once')
  mkdirSync(join(two, 'swap'))
  writeFileSync(join(three, 'owned'), 'of 1000:1001')
  chownSync(join(three, 'owned'), 1000, 1001)
  chmodSync(join(three, 'owned'), 0o640)
  writeFileSync(join(three, 'setuid'), '')
  chmodSync(join(three, 'setuid'), 0o4755)
  symlinkSync('/nowhere', join(three, 'link'))
  lchownSync(join(three, 'link'), 7, 8)
  chownSync(join(three, 'dir'), 5, 6)
  chownSync(join(lowerdir[0] as string, 'dir'), 5, 6)
  return lowerdir
}

/** The merged tree of `image`, as `tree` lists it when the mapping adds `shift`. */
export const merged = (shift = 0): Record<string, string> => {
  const owner = (uid = 0, gid = uid) => `${uid + shift}:${gid + shift}`
  const entries: Record<string, string> = {
    dir: `directory 755 ${owner(5, 6)}`,
    each: `file 644 ${owner()} layer 0`,
    link: `link 777 ${owner(7, 8)} /nowhere`,
    opaque: `directory 755 ${owner()}`,
    'opaque/new': `file 644 ${owner()} layer 1`,
    owned: `file 640 ${owner(1000, 1001)} of 1000:1001`,
    setuid: `file 4755 ${owner()} `,
    swap: `directory 755 ${owner()}`,
  }
  for (let i = 0; i < 4; i++) {
    entries[`only-${i}`] = `file 644 ${owner()} layer ${i}`
    entries[`dir/from-${i}`] = `file 644 ${owner()} layer ${i}`
  }
  return entries
}

/** Every name below a directory: `type mode uid:gid content`. */
export const tree = (dir: string, below = ''): Record<string, string> => {
  const found: Record<string, string> = {}
  for (const name of readdirSync(join(dir, below))) {
    const path = join(below, name)
    const stats = lstatSync(join(dir, path))
    const head = `${(stats.mode & 0o7777).toString(8)} ${stats.uid}:${stats.gid}`
    if (stats.isDirectory()) Object.assign(found, { [path]: `directory ${head}` }, tree(dir, path))
    else if (stats.isSymbolicLink()) found[path] = `link ${head} ${readlinkSync(join(dir, path))}`
    else if (stats.isFile()) found[path] = `file ${head} ${readFileSync(join(dir, path), 'utf8')}`
    else found[path] = `${stats.isCharacterDevice() ? `device ${stats.rdev}` : 'special'} ${head}`
  }
  return found
}

/** `uid:gid` of a file on disk, or through a mount. */
export const owner = (path: string): string => {
  const { uid, gid } = lstatSync(path)
  return `${uid}:${gid}`
}
