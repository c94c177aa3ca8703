/**
 * One function a system call: each makes the step that makes the call.
 *
 * Names, argument order and flags are those of the manual pages; what a plan always wants is filled in
 * (O_CLOEXEC and its kin, empty paths for "the fd itself"). `extra` carries what is the same for every
 * call: subject, tolerated errnos, expectations.
 */
export type { Extra } from './calls/args.js'
export * from './calls/claim.js'
export * from './calls/file.js'
export * from './calls/fs-context.js'
export * from './calls/mount.js'
export * from './calls/namespace.js'
export * from './calls/stat.js'
export * from './calls/tree.js'
