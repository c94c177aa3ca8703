/** What the probes of this folder share. */
import { binding } from '../binding.js'
import { errnoName } from '../errno.js'
import { unsupported } from '../errors.js'
import { mustHaveRoom } from '../exhausted.js'
import * as f from '../flags.js'

/** The bytes of a path as the addon takes them. */
export const path = (text: string): Buffer => Buffer.from(`${text}\0`)

/** Flags that no kernel accepts. */
export const everyFlag = 0xffff_ffff

/** The fd of a context of a filesystem, or -errno; for want of room an error, since that tells nothing of the kernel. */
export function openContext(type: string): number {
  const fsFd = binding.fsopen(path(type), f.FSOPEN_CLOEXEC)
  mustHaveRoom(fsFd, 'fsopen', `fsopen("${type}", FSOPEN_CLOEXEC)`)
  return fsFd
}

/** Makes its superblock: 0 or -errno, for want of room an error. */
export function createContext(fsFd: number): number {
  const result = binding.fsconfig(fsFd, f.FSCONFIG_CMD_CREATE, null, null, 0)
  mustHaveRoom(result, 'fsconfig', 'fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)')
  return result
}

/** Why a call that was probed is missing. */
export function reasonOf(result: number, call: string): string {
  const name = errnoName(-result)
  if (name === 'ENOSYS') return `ENOSYS: this kernel has no ${call}, or a filter (seccomp) hides it`
  if (name === 'EPERM') return `EPERM: a filter (seccomp) refuses ${call}`
  return name
}

/** @throws ERR_OVERLAYFD_UNSUPPORTED where a filter refuses the call by which mounts are told apart */
export function mustHaveStatx(): void {
  const result = binding.statx(-1, path(''), -1, 0, Buffer.alloc(256))
  if (!isThere(result)) throw unsupported(`mounts cannot be told apart here: ${reasonOf(result, 'statx')}`)
}

/** Whether a call was answered by the kernel itself, though with an error. */
export const isThere = (result: number): boolean =>
  result >= 0 || !['ENOSYS', 'EPERM'].includes(errnoName(-result))
