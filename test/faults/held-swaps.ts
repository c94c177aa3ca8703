/**
 * Names that are exchanged while a call of the library is held: what no race can be relied on to hit. The supervisor holds
 * the owned threads at each call in turn, and for it, or from it on, something else stands at a name.
 *
 *   held     the k-th call of a run; what is at the name is exchanged; the call is let go
 *   once     the next call is held too, and the name is put back before that
 *   from     it stays exchanged until the run is over
 *
 * What stands there instead leads outside, or is from outside. Nothing out there may change: no owner, mode, attribute,
 * name or content; and no secret of it may be seen in what was mounted.
 */
import { lstatSync, read, readdirSync, readFileSync, readlinkSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { MountError } from '../../lib/index.js'
import { lgetxattr, llistxattr } from '../../lib/sys.js'
import { report } from './supervised.js'

const socket = Number(process.env['OVERLAYFD_FAULTS'] ?? -1)

/** The next message of the supervisor, read by one of libuv's threads. */
const next = (): Promise<string> =>
  new Promise((resolve, reject) => {
    const buffer = Buffer.alloc(1 << 20)
    read(socket, buffer, 0, buffer.length, null, (error, size) =>
      error ? reject(error) : resolve(buffer.toString('latin1', 0, size).trim()),
    )
  })

/** Calls that look no name up. */
const blind: ReadonlySet<string> = new Set(
  'close fsopen fsmount fstatfs fchdir setns unshare fcntl mount_setattr clone write wait4 capget capset readlinkat'.split(
    ' ',
  ),
)
/** Each n-th exchange is tried: `OVERLAYFD_SWAPS=1` tries them all. */
const stride = Number(process.env['OVERLAYFD_SWAPS'] ?? 7)
/** While something is worked on: those whose name matches. */
const chosen = new RegExp(process.env['OVERLAYFD_FAULTS_ONLY'] ?? '')

/** Runs it with the `k`-th call held, and the name exchanged for that call or from it on; whether there was such a call. */
const heldAt = async (
  k: number,
  swap: Swap,
  span: 'once' | 'from',
  { run, takeDown }: Sweep,
): Promise<boolean> => {
  writeSync(socket, `hold ${k}`)
  const said = await next()
  if (said !== 'armed') throw new Error(`supervisor: ${said}`)
  let waiting = next()
  let isStill = false
  const running = run()
  const isHeld = async (): Promise<boolean> =>
    (await Promise.race([waiting, running.then(() => 'over')])) === 'held'
  const wasHeld = await isHeld()
  if (wasHeld) {
    const isSwapped = exchanged(swap)
    if (span === 'once') {
      waiting = next()
      writeSync(socket, 'step')
      const again = await isHeld()
      if (isSwapped) putBack(swap, takeDown)
      if (again) {
        waiting = next()
        writeSync(socket, 'release 0')
      }
    } else {
      isStill = isSwapped
      waiting = next()
      writeSync(socket, 'release 0')
    }
  }
  await running
  if (isStill) putBack(swap, takeDown)
  writeSync(socket, 'report')
  // of what goes on in the background
  if ((await waiting) === 'held') await next()
  return wasHeld
}

/** False of what cannot be renamed: something is mounted on it, or it is gone. */
const exchanged = (swap: Swap): boolean => {
  try {
    swap.there()
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EBUSY') return false
    throw error
  }
}

/** A directory that was mounted on is left in peace by rename(2) until it is not. */
const putBack = (swap: Swap, takeDown: Sweep['takeDown']): void => {
  try {
    swap.back()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || !takeDown) throw error
    takeDown()
    swap.back()
  }
}

/** Two names whose directories change places: the first is what the library is given, the second what is to be there. */
export interface Swap {
  readonly name: string
  /** the name, below the area, and what stands beside it in the meantime */
  there(): void
  back(): void
}

/** The first of the two need not be there, nor may it be wanted back. */
export const swapOf = (name: string, one: string, other: string): Swap => {
  const aside = `${one}.aside`
  const isThere = (path: string) => lstatSync(path, { throwIfNoEntry: false }) !== undefined
  let was = false
  return {
    name,
    there() {
      was = isThere(one)
      if (was) renameSync(one, aside)
      renameSync(other, one)
    },
    // not what was made since where there was nothing; again, if the first of the two went well and not the second
    back() {
      if (!isThere(other)) renameSync(one, other)
      if (was) renameSync(aside, one)
    },
  }
}

/** Everything of a directory that could be changed: `name type mode uid:gid attributes content`. */
export const snapshot = (dir: string): string[] => {
  const names = ['', ...(readdirSync(dir, { recursive: true }) as string[])].sort()
  return names.map((name) => {
    const path = join(dir, name)
    const stats = lstatSync(path)
    const xattrs = llistxattr(path).map((each) => `${each}=${lgetxattr(path, each).toString('hex')}`)
    const content = stats.isFile()
      ? readFileSync(path, 'utf8')
      : stats.isSymbolicLink()
        ? readlinkSync(path)
        : ''
    return [name, stats.ino, stats.mode.toString(8), `${stats.uid}:${stats.gid}`, ...xattrs, content].join(
      ' ',
    )
  })
}

/** What a run may answer: each says that a name leads elsewhere by now. */
const known = [
  'ELOOP',
  'ENOENT',
  'ENOTDIR',
  'EINVAL',
  'EBUSY',
  'ESTALE',
  'EXDEV',
  'EAGAIN',
  'EEXIST',
  'ENOTEMPTY',
]

export interface Sweep {
  readonly name: string
  readonly swaps: readonly Swap[]
  /** what happens before anything is exchanged */
  before?(): Promise<void>
  /** makes it, sees that it is right or throws, and takes it away */
  run(): Promise<void>
  /** unmounts what is mounted where the names led to */
  takeDown?(): void
  /** what is done once the names are as they were; what is wrong with them */
  after?(): Promise<readonly string[]>
  /** what is to be as it was */
  readonly outside: readonly string[]
  /**
   * The caller's path decides until here, by the rule of docs/security.md: the index of the last call that may be led
   * elsewhere, of those that a run without exchanges makes
   */
  decided?(calls: readonly string[], swap: Swap): number
}

/** Each call of a run that looks something up × each exchange × once or from there on. */
export const sweepSwaps = async (t: Test, sweep: Sweep): Promise<void> => {
  const { outside } = sweep
  if (!chosen.test(sweep.name)) return
  await sweep.before?.()
  writeSync(socket, 'arm')
  if ((await next()) !== 'armed') throw new Error('supervisor')
  await sweep.run()
  const usual = report().map(({ call }) => call)
  await sweep.after?.()
  const before = outside.map(snapshot)
  const problems: string[] = []
  let exchanges = 0
  let nth = 0
  const codes = new Map<string, number>()
  for (const swap of sweep.swaps) {
    const first = (sweep.decided?.(usual, swap) ?? -1) + 1
    for (let k = first; k < usual.length; k++) {
      if (blind.has(usual[k]!)) continue
      for (const span of ['once', 'from'] as const) {
        if (nth++ % stride !== 0) continue
        const what = `${sweep.name}: ${swap.name}, ${span} call ${k} (${usual[k]})`
        let code = 'done'
        await sweep.before?.()
        const run = async () => {
          try {
            await sweep.run()
          } catch (error) {
            code = error instanceof MountError ? error.code : 'wrong'
            if (!known.includes(code)) problems.push(`${what}: ${error}`)
          }
        }
        const isHeld = await heldAt(k, swap, span, { ...sweep, run })
        const wrong = (await sweep.after?.()) ?? []
        problems.push(...wrong.map((each) => `${what}: ${code}: ${each}`))
        codes.set(code, (codes.get(code) ?? 0) + 1)
        if (isHeld) exchanges++
        const found = outside.map(snapshot)
        for (const [i, each] of found.entries()) {
          const lines = each.filter((line) => !before[i]!.includes(line))
          const gone = before[i]!.filter((line) => !each.includes(line))
          if (lines.length + gone.length > 0) problems.push(`${what}: ${code}: outside ${lines}, was ${gone}`)
          before[i] = each
        }
      }
    }
  }
  t.same(problems.slice(0, 12), [], `${sweep.name}: ${problems.length} of ${exchanges}`)
  t.ok(exchanges > 0, sweep.name)
  console.error(
    `${sweep.name}: ${exchanges} exchanges; ${[...codes].map(([code, n]) => `${code} ${n}`).join(', ')}`,
  )
}
