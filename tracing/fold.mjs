/**
 * Makes a flame graph file of what a tracer printed. `tracing/run` calls it; by hand:
 *
 *   node fold.mjs bpftrace --unit ns|us [--only BEGINNING] FILE   the map @ns or @us of bpftrace's output
 *   node fold.mjs samples|off-cpu|locks [--pid PID] FILE          perf script's output, see fold/perf.mjs
 *
 * Reads standard input and writes FILE. Prints what else bpftrace had to say (histograms, counts) and the
 * heaviest stacks. `--only` keeps the stacks with a frame that begins so, `--pid` what one process did.
 */
import { writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { foldMap } from './fold/bpftrace.mjs'
import { heaviest, only, render } from './fold/folded.mjs'
import { events, foldLocks, foldOffCpu, foldSamples } from './fold/perf.mjs'

/** @type {Readonly<Record<string, { fold: typeof foldSamples, unit: string }>>} */
const PERF = {
  samples: { fold: foldSamples, unit: 'samples' },
  'off-cpu': { fold: foldOffCpu, unit: 'us' },
  locks: { fold: foldLocks, unit: 'us' },
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { unit: { type: 'string' }, only: { type: 'string' }, pid: { type: 'string' } },
})
const [source = '', file] = positionals
const perf = PERF[source]
const unit = perf?.unit ?? values.unit
if (!file || !unit || (!perf && source !== 'bpftrace')) {
  const expected = 'bpftrace with --unit, samples, off-cpu or locks, and then a file'
  throw new TypeError(`fold.mjs: expected ${expected}; got: ${process.argv.slice(2).join(' ')}`)
}

const fromPerf = (/** @type {typeof foldSamples} */ fold) =>
  fold(
    events(createInterface({ input: process.stdin })),
    values.pid === undefined ? undefined : Number(values.pid),
  )

const fromBpftrace = async () => {
  const { sums, rest } = foldMap(await text(process.stdin), unit)
  process.stdout.write(rest === '' ? '' : `${rest}\n\n`)
  return values.only === undefined ? sums : only(sums, values.only)
}

const sums = await (perf ? fromPerf(perf.fold) : fromBpftrace())
writeFileSync(file, render(sums))
const total = Math.round([...sums.values()].reduce((sum, weight) => sum + weight, 0))
process.stdout.write(
  `${file}: ${sums.size} stacks, ${total} ${unit}${sums.size > 0 ? '; the heaviest:' : ''}\n`,
)
for (const line of heaviest(sums)) process.stdout.write(`${line}\n`)
