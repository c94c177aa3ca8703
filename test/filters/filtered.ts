/**
 * A child process behind a filter, driven from here: what it is asked takes a line, what it answers too. Nothing here
 * is filtered, so this side can look at what was mounted, at the child's fds and threads, and end it if it hangs.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { dist, environment } from '../support/child.js'
import type { Teardown } from '../support/scratch.js'
import { behind, type Rule, seccompModule, seccompProgram } from '../support/seccomp.js'

/** An error as the child has told it. */
export interface Failure {
  readonly name: string
  readonly message: string
  readonly code?: string
  readonly syscall?: string
}

/** Thrown for what the library has thrown over there. */
export class Refused extends Error {
  readonly failure: Failure

  constructor(failure: Failure) {
    super(`${failure.name}: ${failure.message}`)
    this.failure = failure
  }
}

export interface Filtered {
  readonly pid: number
  /** @throws Refused; Error if there is no answer in time: the child is killed then */
  ask<T = unknown>(op: string, request?: object): Promise<T>
  /** ends it; answers what it wrote to stderr, and how it ended if that was not well */
  stop(): Promise<string>
}

const program = fileURLToPath(new URL('child.mjs', import.meta.url))
/** an answer takes milliseconds; a machine may be busy */
const limit = 60_000

export interface FilteredOptions {
  /** the filter begins when the child has been started: for one that node cannot be started behind */
  readonly late?: boolean | undefined
  /** a capability that it does not have either */
  readonly without?: string | undefined
}

const dropping = (capability: string): string[] => [
  'setpriv',
  `--bounding-set=-${capability}`,
  `--inh-caps=-${capability}`,
]

export const startFiltered = async (
  t: Teardown,
  rules: readonly Rule[],
  { late = false, without }: FilteredOptions = {},
): Promise<Filtered> => {
  const node = [process.execPath, program, dist('index.js'), seccompModule]
  const args = late ? node.slice(1) : behind(rules, [...(without ? dropping(without) : []), ...node])
  const child: ChildProcess = spawn('env', ['--unset=NODE_OPTIONS', process.execPath, ...args], {
    env: environment(),
    stdio: 'pipe',
  })
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk
  })
  const ended = once(child, 'close') as Promise<[number | null, string | null]>
  const how = ended.then(([status, signal]) =>
    status === 0 ? stderr : `${stderr}ended with ${signal ?? `status ${status}`}`,
  )
  const answers = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
  const stop = async (): Promise<string> => {
    child.stdin?.end()
    const timer = setTimeout(() => child.kill('SIGKILL'), limit)
    const words = await how
    clearTimeout(timer)
    return words
  }
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const ask = async <T>(op: string, request: object = {}): Promise<T> => {
    child.stdin?.write(`${JSON.stringify({ op, ...request })}\n`)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        child.kill('SIGKILL')
        reject(new Error(`no answer to ${op} within ${limit} ms`))
      }, limit)
    })
    const line = await Promise.race([answers.next(), late]).finally(() => clearTimeout(timer))
    if (line.done) throw new Error(`no answer to ${op}: ${await how}`)
    const { error, value } = JSON.parse(line.value) as { error?: Failure; value: T }
    if (error) throw new Refused(error)
    return value
  }
  if (late) await ask('install', { filter: seccompProgram(rules).toString('hex') })
  // what node opens for itself is open by then
  await ask('features')
  return { pid: child.pid as number, ask, stop }
}
