/** What the probes of this folder share. */
import { errnoName } from '../errno.js'

/** The bytes of a path as the addon takes them. */
export const path = (text: string): Buffer => Buffer.from(`${text}\0`)

/** Flags that no kernel accepts. */
export const everyFlag = 0xffff_ffff

/** Why a call that was probed is missing. */
export function reasonOf(result: number): string {
  const name = errnoName(-result)
  if (name === 'ENOSYS') return 'ENOSYS: this kernel does not have it'
  if (name === 'EPERM') return 'EPERM: a filter (seccomp) refuses it'
  return name
}
