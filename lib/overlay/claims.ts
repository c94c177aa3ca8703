/**
 * Uppers and work directories that this process has in use: the kernel only warns (in its log) about a
 * second overlay on the same upper unless index=on, and what happens then is undefined.
 *
 * Programs claim both, by device and inode, between opening them and doing anything to them; the addon keeps the
 * claims of all environments (worker threads) of the process. A claim ends with its handle. One whose mount has
 * meanwhile been taken away by somebody else does not count: who meets it looks. A mount that waits for directories
 * whose last mount is still being taken down is started when they are free.
 */
import { binding } from '../binding.js'
import { MountError } from '../errors.js'
import type { Step } from '../program/step.js'
import { type AttachedMount, MountLook } from './presence.js'
import type { MountSpec } from './spec.js'

const EBUSY = 16

/** True if the claim is of a mount that is gone, or going; it is dropped then. */
export function dropStale(claim: number, unique: boolean): boolean {
  const mount = mountOf(claim)
  if (mount === 'detached' || (mount && new MountLook(unique).sees(mount))) return false
  // one that is ending is left, and waited for at the next try
  binding.dropStaleClaim(claim)
  return true
}

function mountOf(claim: number): AttachedMount | 'detached' | undefined {
  const mount = binding.claimedMount(claim)
  if (mount === null) return 'detached'
  return mount && { mountId: mount[0], dev: mount[1], namespace: Number(mount[2]) }
}

/** Directories that mounts of this environment are making, by path. */
const creating = new Set<string>()

/**
 * With `create`: nobody else here makes the same upper or work directory meanwhile. A mount that finds a directory which
 * another is still making would take it over half made. Other spellings of the path, and other environments, are
 * met by the claim: then one of the two is refused.
 *
 * @returns what ends that
 * @throws MountError EBUSY
 */
export function beginCreating({ create, upperdir, workdir }: MountSpec): (() => void) | undefined {
  if (!create || upperdir === undefined || workdir === undefined) return undefined
  const wanted = { upperdir: upperdir.toString('latin1'), workdir: workdir.toString('latin1') }
  for (const [option, path] of Object.entries(wanted)) {
    if (creating.has(path))
      throw busy(option, Buffer.from(path, 'latin1'), 'another mount that is being made')
  }
  const keys = new Set(Object.values(wanted))
  for (const key of keys) creating.add(key)
  return () => {
    for (const key of keys) creating.delete(key)
  }
}

/** EBUSY that says which mount has the directory. */
export function inUse({ subject }: Step, claim: number, cause: MountError): MountError {
  const { option, path = '' } = subject!
  const mount = mountOf(claim)
  // the claim of a mount is settled once it is attached: until then the two are the same
  const by =
    typeof mount === 'object'
      ? `the overlay at ${new MountLook(true).whereIs(mount)}`
      : 'a detached mount, or one that is being made'
  return busy(option, path, by, cause)
}

function busy(option: string, path: string | Uint8Array, by: string, cause?: MountError): MountError {
  return new MountError({
    errno: EBUSY,
    syscall: 'fsconfig',
    call: `mount with ${option} "${Buffer.from(path as Uint8Array).toString()}"`,
    path,
    hint: `this ${option} is in use by ${by}: two overlays on one ${option} are undefined behaviour`,
    step: cause?.step,
    cause,
  })
}
