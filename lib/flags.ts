/**
 * The kernel's constants by their C names, each typed by the calls that take it.
 *
 * The numbers are written here, not asked of the addon: a plan is made and printed without a kernel. A test
 * compares each with the kernel's headers and with what the addon was compiled with.
 */
export * from './flags/file.js'
export { type Flag, type Flags, flag } from './flags/flag.js'
export * from './flags/fs-context.js'
export * from './flags/mount.js'
export * from './flags/namespace.js'
export * from './flags/tree.js'
