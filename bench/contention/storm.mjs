/**
 * Runs one storm, and beside it an innocent neighbour if that is wanted. Each is a process of its own.
 *
 *   storm.c, overlayfd-storm.mjs   make a mount namespace and a tmpfs, start containers, print every latency
 *   neighbour.c                    waits for the storm's begin and looks up a path until shortly before its end
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BenchError, runChild } from '../support/child.mjs'
import { compile } from '../support/compile.mjs'
import { OWN_NAMESPACE } from '../support/scratch.mjs'
import { Latencies } from '../support/statistics.mjs'
import { traced } from './trace.mjs'

const source = (name) => fileURLToPath(new URL(name, import.meta.url))

/** Threads that only compute: what it is to share the CPUs. Not a strategy. */
export const BUSY = { name: 'computing threads', variant: '0' }

/** More than any storm starts: it ends by its time. */
const ENDLESS = 1_000_000

/**
 * @typedef {{ layers: number, concurrency: number, containers: number, seconds: number }} Size
 * @typedef {{ seconds: number, composes: number[], placement?: string }} Storm until the last superblock was gone;
 *   microseconds each; the threads that overlayfd chose and why
 * @typedef {{ seconds: number, onCpu: number | null, waitedForCpu: number | null, slept: number,
 *   latencies: readonly (readonly [nanoseconds: number, count: number])[] }} Neighbour
 */

export class Storms {
  #directory
  #begun
  #path

  /** @param {string} directory a tmpfs, for programs and mount points */
  constructor(directory) {
    this.#directory = directory
    this.#begun = join(directory, 'begun')
    // through the tmpfs, so that a lookup crosses a mount as lookups do
    const deep = join(directory, 'lookups', ...'abcdefgh')
    mkdirSync(deep, { recursive: true })
    this.#path = join(deep, 'file')
    writeFileSync(this.#path, '')
  }

  async build() {
    const build = (name, flags) =>
      compile(source(`${name}.c`), join(this.#directory, name), `${name}.c`, flags)
    await Promise.all([build('storm', ['-pthread']), build('neighbour')])
  }

  /** @param {import('./strategies.mjs').Strategy} strategy @param {Size} size @returns {Promise<Storm>} */
  async run(strategy, size) {
    const [command, ...args] = this.#command(strategy, size)
    return parseStorm(
      await runChild(command, args, { cwd: this.#directory, seconds: 120, what: strategy.name }),
    )
  }

  /** The same with a look into the kernel. @returns {Promise<Storm & import('./trace.mjs').Traced>} */
  async runTraced(strategy, size) {
    const { rest, ...found } = await traced(this.#command(strategy, size), {
      directory: this.#directory,
      what: strategy.name,
    })
    return { ...found, ...parseStorm(rest) }
  }

  /**
   * @param {import('./strategies.mjs').Strategy | undefined} strategy none: nothing else is going on
   * @param {Omit<Size, 'containers'>} size
   * @returns {Promise<Neighbour>}
   */
  async runBeside(strategy, size) {
    const command = strategy && this.#command(strategy, { ...size, containers: ENDLESS })
    if (command === undefined) writeFileSync(this.#begun, '')
    const options = { cwd: this.#directory, seconds: 120, what: strategy?.name }
    const storm = command && runChild(command[0], command.slice(1), options)
    // for a storm that failed before it began the neighbour would wait, and still be there in the next one
    storm?.catch(() => writeFileSync(this.#begun, ''))
    const args = [this.#begun, String(size.seconds * 0.9), this.#path]
    const neighbour = runChild(join(this.#directory, 'neighbour'), args, { seconds: 120, what: 'neighbour' })
    const [thrown, looked] = await Promise.allSettled([storm, neighbour])
    for (const { reason } of [thrown, looked]) if (reason !== undefined) throw reason
    return parseNeighbour(looked.value)
  }

  #command({ variant, mapping }, { layers, concurrency, containers, seconds }) {
    rmSync(this.#begun, { force: true })
    const numbers = [layers, concurrency, containers, seconds].map(String)
    return variant === undefined
      ? [
          ...OWN_NAMESPACE,
          process.execPath,
          source('overlayfd-storm.mjs'),
          mapping,
          ...numbers,
          this.#begun,
          join(this.#directory, 'storm.d'),
        ]
      : [join(this.#directory, 'storm'), variant, ...numbers, this.#begun]
  }
}

/** @param {string} text @returns {Storm} */
export const parseStorm = (text) => {
  const { seconds, composes, placement } = parse('a storm', text)
  if (
    !(seconds > 0) ||
    !Array.isArray(composes) ||
    !composes.every((value) => Number.isFinite(value) && value >= 0)
  ) {
    throw new BenchError(`a storm must print seconds and composes, not ${text.slice(0, 200)}`)
  }
  return { seconds, composes, placement }
}

/** @param {string} text @returns {Neighbour} */
export const parseNeighbour = (text) => {
  const { seconds, onCpu, waitedForCpu, slept, latencies } = parse('neighbour', text)
  if (
    !(seconds > 0) ||
    !Array.isArray(latencies) ||
    !latencies.every(([value, count]) => value >= 0 && count > 0)
  ) {
    throw new BenchError(`neighbour must print seconds and latencies, not ${text.slice(0, 200)}`)
  }
  return { seconds, onCpu, waitedForCpu, slept, latencies }
}

/** @param {Neighbour['latencies']} latencies */
export const toLatencies = (latencies) => {
  const recorded = new Latencies()
  for (const [nanoseconds, count] of latencies) {
    for (let i = 0; i < count; i++) recorded.record(nanoseconds / 1e3)
  }
  return recorded
}

const parse = (what, text) => {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new BenchError(`${what} printed no JSON (${error.message}): ${text.slice(0, 200)}`)
  }
}
