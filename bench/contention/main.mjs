/**
 * `npm run bench -- contention`: the whole host under a storm of container starts, one strategy at a time.
 *
 *   strategies.mjs   what a storm is made of
 *   storm.mjs        runs one: storm.c, or overlayfd-storm.mjs, and neighbour.c beside it
 *   trace.mjs, .bt   a look into the kernel meanwhile; locks.mjs: which lock a stack waits for
 *   report.mjs       what it comes to; kernel-report.mjs, neighbour-report.mjs and chart.mjs are parts of it
 *
 * First the storms, which nothing else disturbs: so many layers, so many in flight, in rounds, strategies in turns.
 * Then storms beside a neighbour, and storms that are traced, which costs time: neither counts for the throughput.
 */
import { isKept } from '../options.mjs'
import { rotated } from '../rounds.mjs'
import { BenchError } from '../support/child.mjs'
import { describeMachine } from '../support/machine.mjs'
import { Progress } from '../support/progress.mjs'
import { save, toMarkdown } from '../support/results.mjs'
import { report } from './report.mjs'
import { BUSY, Storms } from './storm.mjs'
import { pickStrategies, STRATEGIES } from './strategies.mjs'
import { whyNotTraced } from './trace.mjs'

/** A storm ends when its containers were started, or its time is over: the slow ways start fewer. */
const FULL = {
  layers: [50, 1],
  concurrencies: [1, 2, 4, 8, 16, 32, 64],
  rounds: 3,
  containers: 2000,
  // with 64 in flight the last ones run nearly alone: in a shorter time that would tell
  seconds: 0.8,
  beside: { layers: 50, concurrency: 16, seconds: 1, rounds: 3 },
  trace: { layers: 50, concurrency: 16, containers: 1000, seconds: 0.5 },
}
const QUICK = {
  layers: [50],
  concurrencies: [1, 4, 16, 64],
  rounds: 1,
  containers: 100,
  seconds: 0.15,
  beside: { layers: 50, concurrency: 16, seconds: 0.2, rounds: 1 },
  trace: { layers: 50, concurrency: 16, containers: 100, seconds: 0.2 },
}

/** @param {import('../options.mjs').RunOptions} options */
export const run = async ({ only, list, rounds, quick, output, directory, command }) => {
  const strategies = pickStrategies(only)
  if (list) return console.log(STRATEGIES.map(({ name, about }) => `${name.padEnd(24)} ${about}`).join('\n'))

  const plan = inSoManyRounds(quick ? QUICK : FULL, rounds)
  const storms = new Storms(directory)
  await storms.build()
  const untraced = whyNotTraced()
  const cells = { ...cellsOf(strategies, plan), ...(untraced !== undefined && { traces: [] }) }
  const measured = await measure(cells, storms)
  const machine = await describeMachine()
  const results = { ...report({ ...measured, strategies, plan, untraced, machine }), command, machine }
  const withoutCharts = results.sections.map(({ chart, ...section }) => section)
  console.log(toMarkdown('contention', { ...results, sections: withoutCharts }))
  if (isKept({ output, quick, only })) {
    console.log((await save('contention', results, { output })).join('\n'))
  }
  const failed = measured.failures.map(({ name, message }) => `${name}: ${message}`)
  if (failed.length > 0) throw new BenchError(failed.join('\n'))
}

/**
 * @typedef {import('./strategies.mjs').Strategy} Strategy
 * @typedef {import('./storm.mjs').Size} Size
 * @typedef {{ strategy: Strategy, size: Size, round: number }} Cell
 */

const inSoManyRounds = (plan, rounds) =>
  rounds === undefined ? plan : { ...plan, rounds, beside: { ...plan.beside, rounds } }

/** In the order in which they are run. @returns {{ storms: Cell[], besides: Cell[], traces: Cell[] }} */
export const cellsOf = (
  strategies,
  { layers, concurrencies, rounds, containers, seconds, beside, trace },
) => {
  const inRounds = (all, count) =>
    Array.from({ length: count }, (_, round) =>
      rotated(all, round, count).map((cell) => ({ ...cell, round })),
    ).flat()
  const sizes = layers.flatMap((each) =>
    concurrencies.map((concurrency) => ({ layers: each, concurrency, containers, seconds })),
  )
  const { rounds: besideRounds, ...besideSize } = beside
  return {
    storms: inRounds(
      sizes.flatMap((size) => strategies.map((strategy) => ({ strategy, size }))),
      rounds,
    ),
    // none: an idle host, for comparison
    besides: inRounds(
      [undefined, BUSY, ...strategies].map((strategy) => ({ strategy, size: besideSize })),
      besideRounds,
    ),
    traces: strategies.map((strategy) => ({ strategy, size: trace, round: 0 })),
  }
}

/** One after the other; what fails is told in the report, and the rest goes on. */
const measure = async (cells, storms) => {
  const failures = []
  const progress = new Progress(Object.values(cells).flat().length)
  const each = async (what, list, runOne) => {
    const done = []
    for (const cell of list) {
      const name = `${what}, ${cell.strategy?.name ?? 'nothing'}, ${cell.size.layers} layers, ${cell.size.concurrency} in flight`
      progress.step(`round ${cell.round + 1}: ${name}`)
      if (failures.some((failure) => failure.name === name)) continue
      try {
        done.push({ ...cell, ...(await runOne(cell.strategy, cell.size)) })
      } catch (error) {
        failures.push({ name, message: error.message })
      }
    }
    return done
  }
  try {
    return {
      storms: await each('storm', cells.storms, (...cell) => storms.run(...cell)),
      besides: await each('neighbour', cells.besides, (...cell) => storms.runBeside(...cell)),
      traces: await each('trace', cells.traces, (...cell) => storms.runTraced(...cell)),
      failures,
    }
  } finally {
    progress.end()
  }
}
