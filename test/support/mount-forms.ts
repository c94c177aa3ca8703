/** What tests of bind mounts and tmpfs have in common: both forms of each call behind one face, and what is mounted. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type {
  AttachOptions,
  Below,
  BindOptions,
  ChangeOptions,
  Mount,
  MountAttributes,
  Mounter,
  Propagation,
  ReconfigureOptions,
  TmpfsMountOptions,
  UnmountOptions,
} from '../../lib/index.js'
import type { PathLike } from '../../lib/path.js'
import { isBelow, mounts } from './mountinfo.js'
import type { Scratch } from './scratch.js'

type Target = PathLike | Below

export interface MountForm {
  readonly name: 'promise' | 'Sync'
  bind(mounter: Mounter, options: BindOptions): Promise<Mount>
  tmpfs(mounter: Mounter, options?: TmpfsMountOptions): Promise<Mount>
  attach(mount: Mount, target: Target, options?: AttachOptions): Promise<void>
  moveTo(mount: Mount, target: Target, options?: AttachOptions): Promise<void>
  setAttributes(mount: Mount, attributes: MountAttributes, options?: ChangeOptions): Promise<void>
  setPropagation(mount: Mount, propagation: Propagation, options?: ChangeOptions): Promise<void>
  reconfigure(mount: Mount, options: ReconfigureOptions): Promise<void>
  unmount(mount: Mount, options?: UnmountOptions): Promise<void>
}

export const mountForms: readonly MountForm[] = [
  {
    name: 'promise',
    bind: (mounter, options) => mounter.mountBind(options),
    tmpfs: (mounter, options) => mounter.mountTmpfs(options),
    attach: (mount, target, options) => mount.attach(target, options),
    moveTo: (mount, target, options) => mount.moveTo(target, options),
    setAttributes: (mount, attributes, options) => mount.setAttributes(attributes, options),
    setPropagation: (mount, propagation, options) => mount.setPropagation(propagation, options),
    reconfigure: (mount, options) => mount.reconfigure(options),
    unmount: (mount, options) => mount.unmount(options),
  },
  {
    name: 'Sync',
    bind: async (mounter, options) => mounter.mountBindSync(options),
    tmpfs: async (mounter, options) => mounter.mountTmpfsSync(options),
    attach: async (mount, target, options) => mount.attachSync(target, options),
    moveTo: async (mount, target, options) => mount.moveToSync(target, options),
    setAttributes: async (mount, attributes, options) => mount.setAttributesSync(attributes, options),
    setPropagation: async (mount, propagation, options) => mount.setPropagationSync(propagation, options),
    reconfigure: async (mount, options) => mount.reconfigureSync(options),
    unmount: async (mount, options) => mount.unmountSync(options),
  },
]

/** Options of the mounts at and below a directory, by what is left of their path: `{ '': 'ro,nosuid', '/sub': 'ro' }`. */
export const optionsAt = (dir: string): Record<string, string> =>
  Object.fromEntries(
    mounts()
      .filter((mount) => isBelow(mount, dir))
      .map(({ target, attributes }) => [target.toString().slice(dir.length), attributes.join(',')]),
  )

/** `shared`, `master`, … of the topmost mount at a path. */
export const propagationAt = (path: string): string[] => {
  const mount = mounts()
    .filter(({ target }) => target.toString() === path)
    .at(-1)
  return (mount?.propagation ?? []).map((each) => each.replace(/:.*/, ''))
}

/** A volume: files, and a file system of its own mounted at `sub`. The scratch area unmounts it. */
export const volume = (area: Scratch, name = 'volume'): string => {
  const dir = area.mkdir(name)
  area.mkdir(name, 'sub')
  if (!existsSync(join(dir, 'file'))) {
    writeFileSync(join(dir, 'file'), 'of the volume')
    execFileSync('mount', ['-n', '-t', 'tmpfs', '-o', 'mode=755', 'sub', join(dir, 'sub')])
    writeFileSync(join(dir, 'sub/file'), 'of the mount below')
    mkdirSync(join(dir, 'sub/dir'))
  }
  return dir
}

/** umount(8) of what a test has mounted itself. */
export const umount = (path: string): void => {
  execFileSync('umount', ['-n', '-l', path])
}
