/**
 * Child processes of tests: a clean environment, a time limit that ends them, and all that can be said of
 * how they ended. tap puts a loader of its own into NODE_OPTIONS of whatever is spawned, whatever `env` says;
 * it opens files and starts threads, and a child that counts its fds or is traced must not have it. So children
 * are started by env(1), which drops the variable and becomes the program.
 */
import { type SpawnOptions, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** The package's root, with a slash at the end. */
export const root = fileURLToPath(new URL('../../', import.meta.url))

/** What `npm run build` made of lib/: test/support/run.mjs sees to it that it is not older than lib/. */
export const dist = (file: string): string => new URL(`../../dist/${file}`, import.meta.url).href

export const environment = (extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => {
  const own = Object.entries(process.env).filter(([name]) => !/^(TAP|_TAPJS|TS_NODE)/.test(name))
  return { ...Object.fromEntries(own), ...extra }
}

export interface Ended {
  /** null when a signal ended it */
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
  readonly isTimedOut: boolean
  readonly milliseconds: number
}

export interface RunOptions extends Pick<SpawnOptions, 'cwd'> {
  readonly env?: NodeJS.ProcessEnv
  /** milliseconds until it is killed; 60 s unless told */
  readonly timeout?: number
}

/** What a sanitizer says in a process without /proc before it has read where to say it. */
const unnamed =
  /^==\d+==WARNING: reading executable name failed with errno 2, some stack frames may not be symbolized\n/gm

/** How much slower everything is than usual, under sanitizers: time limits are multiplied by it. */
const patience = Number(process.env['OVERLAYFD_TEST_PATIENCE'] ?? 1)

export const run = (program: string, args: readonly string[], options: RunOptions = {}): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const begin = performance.now()
    const child = spawn('env', ['--unset=NODE_OPTIONS', program, ...args], {
      cwd: options.cwd,
      env: environment(options.env),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let isTimedOut = false
    const timer = setTimeout(
      () => {
        isTimedOut = true
        child.kill('SIGKILL')
      },
      (options.timeout ?? 60_000) * patience,
    )
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
    child.once('error', reject)
    child.once('close', (status, signal) => {
      clearTimeout(timer)
      const [stdout, stderr] = [out, err].map((chunks) => Buffer.concat(chunks).toString()) as [
        string,
        string,
      ]
      const said = stderr.replace(unnamed, '')
      resolve({ status, signal, stdout, stderr: said, isTimedOut, milliseconds: performance.now() - begin })
    })
  })

/** Runs an ES module given as text in this Node. */
export const runModule = (
  text: string,
  args: readonly string[] = [],
  options: RunOptions = {},
): Promise<Ended> => run(process.execPath, ['--input-type=module', '--eval', text, ...args], options)
