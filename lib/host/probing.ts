/** What the probes of this folder share. */
import { binding } from '../binding.js'
import { errnoName } from '../errno.js'
import { unsupported } from '../errors.js'

/** The bytes of a path as the addon takes them. */
export const path = (text: string): Buffer => Buffer.from(`${text}\0`)

/** Flags that no kernel accepts. */
export const everyFlag = 0xffff_ffff

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
