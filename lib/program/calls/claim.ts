/** Steps about claims, the directories that a program has for itself (native/claims.h); no system calls but the look. */
import type { FdArg, Hole, Step } from '../step.js'
import { type Extra, fd, int } from './args.js'

/** statx(fd, "", AT_EMPTY_PATH, …): the directory becomes the program's own; EBUSY if another mount of the process has it */
export const claim = (what: FdArg, extra?: Extra): Step => ({
  call: 'claim',
  args: [fd(what), { kind: 'out', what: 'statx' }],
  ...extra,
})

/** A claim whose mount is being taken down: who wants its directories waits until it is dropped. */
export const retireClaim = (claim: Hole | number, extra?: Extra): Step => ({
  call: 'retire_claim',
  args: [int(claim)],
  ...extra,
})

/** It was not taken down after all. */
export const restoreClaim = (claim: Hole | number, extra?: Extra): Step => ({
  call: 'restore_claim',
  args: [int(claim)],
  ...extra,
})

/** The directories of a claim are free again. */
export const dropClaim = (claim: Hole | number, extra?: Extra): Step => ({
  call: 'drop_claim',
  args: [int(claim)],
  ...extra,
})
