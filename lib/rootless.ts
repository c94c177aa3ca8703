/**
 * `overlayfd/rootless`: starts a program as root of a user namespace, for users without rights.
 *
 * Overlay and idmapped mounts take CAP_SYS_ADMIN over the mount namespace and over the layers' file system. A user has
 * that in a user namespace of his own, over what is mounted there; and a process of several threads, as Node is,
 * cannot enter one (EINVAL). So the program is started inside. No fd of such a namespace is made for `idmap`: outside
 * it would serve nobody without rights over the layers, and inside, mappings need no newuidmap.
 *
 *   who        calls                                             why
 *   ---        -----                                             ---
 *   unshare    unshare(CLONE_NEWUSER | CLONE_NEWNS)              before its maps are written, ids are not mapped
 *   sh         waits on a socket                                 its exec drops the capabilities: its id is not 0 yet
 *   newuidmap  writes /proc/PID/uid_map                          set-user-ID root: checks /etc/subuid
 *   newgidmap  writes /proc/PID/gid_map                          the same for groups
 *   sh         execve of the program                             as id 0, which gives it every capability inside
 */
import { type ChildProcess, execFile, type SpawnOptions, spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import type { Duplex } from 'node:stream'
import { checkText } from './check.js'
import { invalidArgType, invalidArgValue, outOfRange } from './errors.js'
import type { IdExtent } from './idmap.js'
import { mappingOf, type Owner, parseSubids } from './rootless/subids.js'

/** The ids of a user namespace: 0 is the caller, 1 and up are subordinate to him. */
export interface SubordinateIds {
  /** users */
  uid: IdExtent[]
  /** groups */
  gid: IdExtent[]
}

const failure = (message: string, cause?: unknown) =>
  Object.assign(new Error(message, cause === undefined ? undefined : { cause }), {
    code: 'ERR_OVERLAYFD_ROOTLESS',
  })

function caller(): Owner {
  const uid = process.getuid!()
  try {
    return { name: userInfo().username, uid }
  } catch {
    // an id without an entry in passwd: newuidmap will refuse it, and says so
    return { name: undefined, uid }
  }
}

async function rangesOf(file: string, owner: Owner) {
  let text = ''
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const ranges = parseSubids(text, owner)
  if (ranges.length > 0) return ranges
  const who = owner.name ?? String(owner.uid)
  const option = file.endsWith('uid') ? '--add-subuids' : '--add-subgids'
  throw failure(`${file} has no ids for ${who}: root adds some with usermod ${option} 100000-165535 ${who}`)
}

/**
 * The mapping that the calling user may have: his own ids as 0, and from 1 on those that /etc/subuid and /etc/subgid
 * give him, by name or by number. Entries kept elsewhere (nsswitch.conf(5), `subid:`) are not found.
 *
 * @throws Error ERR_OVERLAYFD_ROOTLESS: he has none
 * @see subuid(5), subgid(5)
 */
export async function subordinateIds(): Promise<SubordinateIds> {
  const owner = caller()
  const [uids, gids] = await Promise.all([rangesOf('/etc/subuid', owner), rangesOf('/etc/subgid', owner)])
  return { uid: mappingOf(owner.uid, uids), gid: mappingOf(process.getgid!(), gids) }
}

const argumentsOf = (extents: readonly IdExtent[]) =>
  extents.flatMap(({ inside, outside, length }) => [inside, outside, length].map(String))

/** `newuidmap PID inside outside length …` */
function writeMap(program: 'newuidmap' | 'newgidmap', pid: number, extents: readonly IdExtent[]) {
  return new Promise<void>((resolve, reject) => {
    execFile(program, [String(pid), ...argumentsOf(extents)], (error, _, stderr) => {
      if (error === null) return resolve()
      const why =
        error.code === 'ENOENT'
          ? 'is not installed: package uidmap of Debian and Ubuntu, shadow-utils of Fedora'
          : `failed: ${stderr.trim() || error.message}`
      reject(failure(`${program} ${why}`, error))
    })
  })
}

/** Switches that forbid a user to make a user namespace, with the value that does. */
const switches = [
  ['kernel.unprivileged_userns_clone', '0'],
  ['kernel.apparmor_restrict_unprivileged_userns', '1'],
  ['user.max_user_namespaces', '0'],
] as const

async function whyRefused(): Promise<string> {
  for (const [name, refusing] of switches) {
    const value = await readFile(`/proc/sys/${name.replaceAll('.', '/')}`, 'utf8').catch(() => '')
    if (value.trim() === refusing) return `${name} is ${refusing}`
  }
  return 'a filter (seccomp), a security module or a chroot may forbid it'
}

/** The fd that a shell can name with one digit. */
const maxStdio = 9

/** Waits on fd N, closes it, and becomes the program. */
const waiting = (fd: number) => `echo >&${fd}; read -r go <&${fd} || exit 125; exec ${fd}<&-; exec "$@"`

function stdioOf(stdio: SpawnOptions['stdio']) {
  if (stdio === undefined) return ['pipe' as const, 'pipe' as const, 'pipe' as const]
  if (typeof stdio === 'string') return [stdio, stdio, stdio]
  if (!Array.isArray(stdio)) throw invalidArgType('options.stdio', 'a string or an array', stdio)
  const list = [...stdio]
  while (list.length < 3) list.push('pipe')
  if (list.length > maxStdio) throw outOfRange('options.stdio', `at most ${maxStdio} entries`, list.length)
  return list
}

function checkArguments(command: unknown, args: unknown, options: SpawnOptions): void {
  checkText(command, 'command')
  if (command === '') throw invalidArgValue('command', command, 'must not be empty')
  if (!Array.isArray(args)) throw invalidArgType('args', 'an array of strings', args)
  for (const [i, each] of args.entries()) checkText(each, `args[${i}]`)
  if (
    typeof options !== 'object' ||
    options === null ||
    Array.isArray(options) ||
    ArrayBuffer.isView(options)
  ) {
    throw invalidArgType('options', 'an object', options)
  }
  const { signal } = options
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw invalidArgType('options.signal', 'an AbortSignal', signal)
  }
  for (const name of ['shell', 'uid', 'gid', 'argv0'] as const) {
    if (options[name]) throw invalidArgValue(`options.${name}`, options[name], 'cannot be used here')
  }
}

/**
 * Starts a program as root of a user namespace and a mount namespace of its own, with the ids of `subordinateIds()`:
 * there `overlayfd` mounts without rights outside. Resolves when the program has been let go; it is an ordinary child
 * process, and exit status, signals and stdio are its own (a command that is not found ends with 127).
 *
 * Takes unshare(1) of util-linux, sh, and newuidmap(1) and newgidmap(1), which have to be set-user-ID root. Mounts
 * that are made inside are seen by nobody else, and go with the last process inside.
 *
 * @param command looked up in PATH; `process.execPath` for a program of Node
 * @param options as child_process.spawn takes them, but for shell, uid, gid and argv0; `stdio` has at most 9 entries
 * @throws Error ERR_OVERLAYFD_ROOTLESS: no subordinate ids, newuidmap is missing or refuses, or the system forbids
 *   user namespaces · AbortError: `options.signal`; the program was not started · TypeError, RangeError for wrong
 *   arguments · the error of spawn
 * @see user_namespaces(7), newuidmap(1), unshare(1)
 */
export async function spawnInUserNamespace(
  command: string,
  args: readonly string[] = [],
  options: SpawnOptions = {},
): Promise<ChildProcess> {
  checkArguments(command, args, options)
  const stdio = stdioOf(options.stdio)
  const ids = await subordinateIds()
  const script = waiting(stdio.length)
  const child = spawn('unshare', ['--user', '--mount', '--', 'sh', '-c', script, 'sh', command, ...args], {
    ...options,
    stdio: [...stdio, 'pipe'],
  })
  const socket = child.stdio[stdio.length as 3] as Duplex | undefined
  // an abort may come at any time, and nobody else listens yet
  let broken: NodeJS.ErrnoException | undefined
  const note = (error: Error) => {
    broken ??= error
  }
  child.on('error', note)
  try {
    await ready(child, socket)
    await writeMap('newuidmap', child.pid!, ids.uid)
    await writeMap('newgidmap', child.pid!, ids.gid)
    if (broken) throw broken
  } catch (error) {
    const exited = new Promise((resolve) => child.once('exit', resolve))
    // killed here, or ended by itself: either way it is gone before the caller hears of it
    if (child.kill('SIGKILL')) await exited
    throw broken?.code === 'ENOENT' ? notStarted(broken, options) : (broken ?? error)
  }
  child.off('error', note)
  socket!.end('\n')
  return child
}

/** spawn answers the same for a program that is not found and for a directory that is none. */
function notStarted(error: Error, { cwd }: SpawnOptions): Error {
  const why = cwd === undefined ? '' : 'options.cwd is no directory, or '
  return failure(`unshare cannot be started: ${why}util-linux is not installed`, error)
}

/** Resolves when the shell is there, inside and without ids. */
function ready(child: ChildProcess, socket: Duplex | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const refused = async () => reject(failure(`no user namespace could be made: ${await whyRefused()}`))
    child.once('error', reject)
    child.once('exit', refused)
    socket?.once('error', reject)
    socket?.once('data', () => {
      child.removeListener('error', reject)
      child.removeListener('exit', refused)
      socket.removeListener('error', reject)
      // what becomes of it from here on is the program's
      socket.on('error', () => {})
      resolve()
    })
  })
}
