/** Why a mount that another process has written down cannot be had: each case with a code of its own. */

/** What can be wrong: `code` of a HandoverError. */
export type HandoverCode =
  | 'ERR_OVERLAYFD_OTHER_BOOT'
  | 'ERR_OVERLAYFD_OTHER_NAMESPACE'
  | 'ERR_OVERLAYFD_PATH_REUSED'
  | 'ERR_OVERLAYFD_MOUNT_COVERED'
  | 'ERR_OVERLAYFD_MOUNT_MOVED'
  | 'ERR_OVERLAYFD_MOUNT_GONE'

/** `Rootfs.open` or `Mount.open` did not find the mount as it was written down. Nothing was done, and what is there is untouched. */
export class HandoverError extends Error {
  /** which case it is */
  readonly code: HandoverCode
  /** the target that was written down */
  readonly path: string
  /** of ERR_OVERLAYFD_MOUNT_MOVED: where the mount is now */
  declare readonly movedTo?: string

  constructor(code: HandoverCode, path: Uint8Array, reason: string, movedTo?: Uint8Array) {
    const text = Buffer.from(path).toString()
    super(`the mount of ${JSON.stringify(text)} is not there: ${reason}`)
    this.code = code
    this.path = text
    if (movedTo !== undefined) this.movedTo = Buffer.from(movedTo).toString()
  }
}
HandoverError.prototype.name = 'HandoverError'
