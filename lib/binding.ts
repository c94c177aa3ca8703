/**
 * The only file that loads the addon, and the typed interface of it.
 *
 * Every call of the kernel answers its result (>= 0) or a negative errno; nothing in the addon
 * throws for what the kernel says. It throws a TypeError only where a value is not of the type
 * written here, which the callers in lib/ have excluded by then: that is for whoever calls it by hand.
 * Paths and strings are byte arrays that end in one NUL (`cString` makes them).
 */
import { closeSync, openSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { reading } from './exhausted.js'

/** Bytes that end in one NUL and hold no other. */
export type CString = Uint8Array

/** 1:1 system calls of native/sys.cc. */
export interface SysBinding {
  fsopen(type: CString, flags: number): number
  /** value: bytes for flag null, string (NUL-terminated), binary (aux = length), path; aux as fsconfig(2) */
  fsconfig(fsFd: number, command: number, key: CString | null, value: Uint8Array | null, aux: number): number
  fsmount(fsFd: number, flags: number, attributes: number): number
  fspick(dirFd: number, path: CString, flags: number): number
  openTree(dirFd: number, path: CString, flags: number): number
  openTreeAttr(
    dirFd: number,
    path: CString,
    flags: number,
    attrSet: bigint,
    attrClr: bigint,
    propagation: bigint,
    usernsFd: bigint,
  ): number
  moveMount(fromFd: number, fromPath: CString, toFd: number, toPath: CString, flags: number): number
  mountSetattr(
    dirFd: number,
    path: CString,
    flags: number,
    attrSet: bigint,
    attrClr: bigint,
    propagation: bigint,
    usernsFd: bigint,
  ): number
  mount(
    source: CString | null,
    target: CString,
    type: CString | null,
    flags: number,
    data: CString | null,
  ): number
  umount(target: CString, flags: number): number
  inotifyInit1(flags: number): number
  /** one read(2) into `buffer`; bytes read or -errno */
  read(fd: number, buffer: Uint8Array): number
  close(fd: number): number
  /** of the calling thread, with a NUL, into `buffer`; bytes written, or -errno */
  getcwd(buffer: Uint8Array): number
  /** the target into `buffer`, without a NUL; bytes written, or -errno */
  readlinkat(dirFd: number, path: CString, buffer: Uint8Array): number
  openat2(dirFd: number, path: CString, flags: bigint, mode: bigint, resolve: bigint): number
  /** fills `out` with the 256 bytes of struct statx */
  statx(dirFd: number, path: CString, flags: number, mask: number, out: Uint8Array): number
  /** by unique mount id, in the caller's mount namespace; fills `out` with struct statmount, as far as it fits */
  statmount(mountId: bigint, mask: bigint, out: Uint8Array): number
  /** the same of another mount namespace, by the namespace's id */
  statmountIn(mountNamespaceId: bigint, mountId: bigint, mask: bigint, out: Uint8Array): number
  /** id of the mount namespace that an fd is of, which is never used again (NS_GET_MNTNS_ID, 6.11); or -errno */
  mountNamespaceId(fd: number): number
  /** fills `out` (at least 11 elements) with: type, bsize, blocks, bfree, bavail, files, ffree, fsid (8 bytes as one number), namelen, frsize, flags */
  fstatfs(fd: number, out: BigInt64Array): number
  /** as fstatfs, by path */
  statfs(path: CString, out: BigInt64Array): number
  setns(fd: number, type: number): number
  unshare(flags: number): number
  fchdir(fd: number): number
  /** size of the value, or the list when `name` is null; `buffer` may be empty to ask for the size */
  lgetxattr(path: CString, name: CString | null, buffer: Uint8Array): number
  /** the C library's text for a positive errno */
  strerror(errno: number): string
  /** names and numbers as native/uapi.h and the system headers have them: for the test that compares them with lib/ */
  constants: Record<string, number>
  /** sizeof of the structs that uapi.h carries */
  sizes: Record<string, number>
}

/** Owned threads and the fds of this environment: native/environment.cc. */
export interface PoolBinding {
  /** id of the pool, or -errno; name: at most 15 bytes; cpus: empty for those of the calling thread */
  createPool(name: string, threads: number, cpus: readonly number[]): number
  /** decodes a program with holes (program/encode.ts), to be run by its number: 0 if it is malformed */
  prepare(program: Uint8Array): number
  dropProgram(program: number): void
  /**
   * Runs a program on a thread of the pool; the dispatcher gets the result.
   *
   * @param fills memory whose first `words` are what fills the holes (`encodeFills`); copied
   * @param timed measure each step
   */
  submit(
    pool: number,
    job: number,
    program: Uint8Array | number,
    fills: Uint8Array | undefined,
    words: number,
    timed: boolean,
  ): void
  /** several runs of programs by their numbers: job, program, words of the fills, the fills; and again */
  submitAll(pool: number, runs: Uint8Array, words: number): void
  /**
   * As submit, before all others, and blocks until it has an answer, which is valid until the next call. A program
   * that leaves its thread alone is run on the calling one.
   */
  runSync(
    pool: number,
    program: Uint8Array | number,
    fills?: Uint8Array,
    words?: number,
    timed?: boolean,
  ): Uint8Array
  /** the result of this job comes when nothing else of the pool is queued or runs */
  drain(pool: number, job: number): void
  /** queued, parked, running, most ever queued, ran */
  poolCounts(pool: number): number[]
  /** a queued job is dropped, a running one stops before its committing step; its result comes as always */
  abort(pool: number, job: number): void
  /** ends the threads of a pool without jobs */
  closePool(pool: number): void
  /** called with results (program/result.ts) one after the other, so many words; valid until it returns */
  setDispatcher(dispatch: (results: Uint8Array, words: number) => void): void
  /** the loop is woken when so many results wait; 1, as it begins, for each */
  wakeFor(results: number): void
  /** calls the dispatcher with the results that wait */
  deliver(): void
  /** closes an fd that a program handed out: 0, or -EBADF if it is none */
  closeOwned(fd: number): number
  /** gives such an fd to the caller: it survives the environment; false if it is none */
  disown(fd: number): boolean
  /** whether it is one that this environment would close at its end */
  owns(fd: number): boolean
  /** how many fds that programs handed out are open */
  ownedFds(): number
  /** `name:signature` of the calls that programs know, in the order of their numbers */
  programCalls(): string[]
  /** tells the calling thread's mount namespace from others: the unique id of its root's mount, before Linux 6.8 the
   * namespace's inode; 0 if it cannot be told */
  mountNamespace(): number
}

/** Directories that this process has in use, of all its environments together: native/claims.h. */
export interface ClaimBinding {
  /** the mount is attached: the claim outlives its environment, as the mount does */
  settleClaim(claim: number, mountId: bigint, device: bigint, mountNamespace: number): void
  /** who wants its directories waits until it is dropped or restored */
  retireClaim(claim: number): void
  restoreClaim(claim: number): void
  dropClaim(claim: number): void
  /** unless its mount is being taken down: then that drops it */
  dropStaleClaim(claim: number): void
  /** [id, device, mount namespace]; null while it is being made or is detached; undefined once the claim is gone */
  claimedMount(claim: number): [bigint, bigint, bigint] | null | undefined
  /** device, inode, device, inode, … of its directories; none once the claim is gone */
  claimedInodes(claim: number): bigint[]
  /**
   * The claim of a mount that is attached already: the one there is for it, or a new one. Directories that another
   * claim has stay that one's. `inodes`: device and inode of each, 8 bytes each
   */
  claimMount(mountId: bigint, device: bigint, mountNamespace: number, inodes: Uint8Array): number
  /** the claim of what is mounted from a device; 0 if there is none */
  claimOfDevice(device: bigint): number
  /** how many there are */
  claims(): number
  /** above all numbers of mount namespaces that the caller is in; a visited one has this and its own id */
  readonly firstElsewhere: number
}

export type Binding = SysBinding & PoolBinding & ClaimBinding

/**
 * The addon, loaded when something of it is first used: planning and printing work where it cannot be. Until then
 * it is a stand-in, which importers lose sight of once it has loaded.
 * A failure to load is an Error with code ERR_OVERLAYFD_ADDON that says what was tried.
 */
export let binding: Binding = new Proxy({} as Binding, {
  get: (_, name) => {
    binding = load()
    return binding[name as keyof Binding]
  },
})

function load(): Binding {
  const root = dirname(dirname(fileURLToPath(import.meta.url)))
  const require = createRequire(import.meta.url)
  try {
    return require('node-gyp-build')(root) as Binding
  } catch (cause) {
    // the loader takes what it cannot open for missing
    reading(root, () => closeSync(openSync(root, 'r')))
    const { platform, arch, versions } = process
    const message =
      `overlayfd: no addon for ${platform}-${arch} (Node-API ${versions['napi'] ?? 'unknown'}) could be loaded ` +
      `from prebuilds/ or build/Release/ of the package: ${(cause as Error).message}. ` +
      `It is built by \`npm rebuild overlayfd\`, which needs python3, make and a C++ compiler; only Linux has these calls.`
    throw Object.assign(new Error(message, { cause }), { code: 'ERR_OVERLAYFD_ADDON' })
  }
}
