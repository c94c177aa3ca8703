/**
 * Namespace types, as setns(2) and unshare(2) take them.
 */
import { flag } from './flag.js'

/** time; since Linux 5.6 */
export const CLONE_NEWTIME = flag<'CLONE'>(0x80)
/** root, working directory and umask of its own; unshare(2) only */
export const CLONE_FS = flag<'CLONE'>(0x200)
/** a table of fds of its own; unshare(2) only */
export const CLONE_FILES = flag<'CLONE'>(0x400)
/** mounts */
export const CLONE_NEWNS = flag<'CLONE'>(0x20000)
/** cgroups */
export const CLONE_NEWCGROUP = flag<'CLONE'>(0x2000000)
/** host name */
export const CLONE_NEWUTS = flag<'CLONE'>(0x4000000)
/** System V IPC, message queues */
export const CLONE_NEWIPC = flag<'CLONE'>(0x8000000)
/** users; single-threaded processes only */
export const CLONE_NEWUSER = flag<'CLONE'>(0x10000000)
/** processes; for children only */
export const CLONE_NEWPID = flag<'CLONE'>(0x20000000)
/** network */
export const CLONE_NEWNET = flag<'CLONE'>(0x40000000)
