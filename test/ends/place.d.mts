import type * as kills from '../kills/lives.mjs'

/** Where a life is led, which, and what its mounts show. */
export interface Place extends kills.Place {
  readonly life: string
  /** what is added to an id on disk */
  readonly shift: number
  /** for temporary files; nothing may be left there */
  readonly tmp: string
  /** the process in whose mount namespace the targets are; the reader's unless told */
  readonly holder?: number
}

export interface Seen {
  readonly wrong: string[]
  /** a digit for each target: whether something is mounted */
  readonly mounted: string
}

export const otherMounts: (place: Place) => string
export const prepare: (place: Place) => void
export const look: (place: Place) => Seen
export const afterwards: (place: Place) => Promise<Seen>
