import type * as api from '../../lib/index.js'

/** Where a life is led. */
export interface Place {
  readonly rung: api.RungName
  readonly idmap?: api.IdmapOption
  /** for a mount with a mapping of its own */
  readonly other?: api.IdmapOption
  readonly lowerdir: readonly string[]
  /** where upper, work and targets are */
  readonly base: string
  /** /proc/PID/ns/mnt of somebody else */
  readonly namespace?: string
}

export interface Stay {
  readonly mounter: api.Mounter
  readonly place: Place
  /** told of each handle whose mount can be seen */
  made(handle: api.Mount | api.Rootfs): void | Promise<void>
}

/** Prepares what is not to be swept, and answers the rest. */
export type Life = (stay: Stay) => Promise<() => Promise<void>>

export const lives: Readonly<Record<string, Life>>
/** where each life mounts, below `base` */
export const targets: Readonly<Record<string, readonly string[]>>
