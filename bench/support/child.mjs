/**
 * Child processes that do not outlive the benchmark.
 *
 * What a benchmark leaves running disturbs everybody else on the machine, so whoever ends this process (a terminal's
 * Ctrl-C, a CI's SIGTERM, an error) ends its children first.
 */
import { spawn } from 'node:child_process'

/** A failure that needs no stack trace: the message says it all. */
export class BenchError extends Error {}

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set()
const killAll = () => {
  for (const child of running) kill(child)
}
let isWatching = false

/** With what it has started itself: each is a process group of its own. @param {import('node:child_process').ChildProcess} child */
function kill({ pid }) {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ESRCH') throw error
  }
}

/** From now on a signal ends this process as `process.exit` does, and its children before it. */
export function endTogether() {
  if (isWatching) return
  isWatching = true
  process.on('exit', killAll)
  for (const [signal, number] of Object.entries({ SIGINT: 2, SIGTERM: 15, SIGHUP: 1 })) {
    process.on(signal, () => process.exit(128 + number))
  }
}

/**
 * Runs a program to its end.
 * @param {string} command
 * @param {string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, input?: string, seconds?: number, what?: string }} [options]
 *   `seconds` it may take, default 300; `what` it is called in an error, default the command
 * @returns {Promise<string>} what it wrote to stdout
 * @throws BenchError with what it wrote to stderr, if it cannot be started, fails or takes too long
 */
export function runChild(command, args, { cwd, env, input, seconds = 300, what = command } = {}) {
  endTogether()
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env,
      detached: true,
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    })
    running.add(child)
    let [text, complaint, isLate] = ['', '', false]
    const timer = setTimeout(() => {
      isLate = true
      kill(child)
    }, seconds * 1e3)
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      text += chunk
    })
    child.stderr.setEncoding('utf8').on('data', (chunk) => {
      complaint += chunk
    })
    child.stdin?.on('error', () => {}) // it ended without reading all: its exit code tells why
    child.stdin?.end(input)
    const ended = () => {
      clearTimeout(timer)
      running.delete(child)
    }
    child.on('error', (error) => {
      ended()
      reject(new BenchError(`${what}: ${error.message}`))
    })
    child.on('close', (code, signal) => {
      ended()
      if (code === 0) return resolve(text)
      const why = isLate ? `killed after ${seconds} s` : (signal ?? `exit code ${code}`)
      reject(new BenchError(`${what} failed (${why})${complaint && `:\n${complaint.trim()}`}`))
    })
  })
}
