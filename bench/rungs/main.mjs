/**
 * `npm run bench -- rungs`: what each rung costs, by count and by the clock, and what the mount table shows of it.
 *
 *   count.mjs              calls, writers, grace periods: by the plan, and by strace of one mount
 *   ../rounds.mjs          µs of a mount, beside those of the C floor's variant b, in turns
 *   ../measures/table.mjs  the mount table's longest excess over the targets, seen by sampler.c
 *
 * Counts that differ, and an excess, are failures; a time is a result.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isKept, pick } from '../options.mjs'
import { complaintsOf, runRounds } from '../rounds.mjs'
import { findSubject } from '../subjects/index.mjs'
import { BenchError } from '../support/child.mjs'
import { compile } from '../support/compile.mjs'
import { buildFloor } from '../support/floor.mjs'
import { describeMachine } from '../support/machine.mjs'
import { Progress } from '../support/progress.mjs'
import { save, toTable } from '../support/results.mjs'
import { counter } from './count.mjs'
import { countsTable, excessTable, timesTable } from './tables.mjs'

/** Those that serve no idmap are measured without one. */
const WAYS = [
  { name: 'detached-tree', isMapped: true },
  { name: 'direct', isMapped: false },
  { name: 'staged', isMapped: true },
  { name: 'staged-classic', isMapped: true },
  { name: 'classic', isMapped: false },
]
const LAYERS = [1, 50, 500]
const FLOOR = 'floor/b'
/** What attaches something beside the target, to show that it would be seen. */
const CONTROL = 'common-parent (sys)'
const SAMPLER = fileURLToPath(new URL('sampler.c', import.meta.url))

/** @param {import('../options.mjs').RunOptions} options */
export async function run(options) {
  const { only, list, rounds, quick, output, directory, command } = options
  const picked = pick(WAYS, only)
  if (list) return console.log(WAYS.map(({ name }) => name).join('\n'))

  const machine = await describeMachine()
  const layers = quick ? [50] : LAYERS
  const { ways, absences } = await present(picked)
  await buildFloor(directory)
  await compile(SAMPLER, join(directory, 'sampler'), 'sampler.c')

  const counts = await countAll(directory, ways, layers)
  const timed = timeCells(ways, layers)
  const plan = { directory, rounds: rounds ?? (quick ? 1 : 5), milliseconds: quick ? 30 : 200 }
  const times = await runRounds(timed, plan)
  const watched = tableCells(ways, quick ? 100 : 1000)
  const tables = await runRounds(watched, { ...plan, rounds: 1 })
  const failures = [...times.failures, ...tables.failures]

  const sections = [
    countsTable(counts),
    timesTable(timed, times.measured, FLOOR),
    excessTable(watched, tables.measured),
  ]
  if (absences.length > 0) sections.push({ title: 'Not on this machine', text: absences.join('\n') })
  for (const { title, table, text } of sections) console.log(`${title}\n\n${table ? toTable(table) : text}\n`)
  if (isKept(options)) {
    const cells = Object.fromEntries([...times.measured, ...tables.measured])
    const raw = { plan: { ...plan, directory: undefined }, counts, failures, cells }
    const text = howItWasMeasured(plan)
    const results = { title: 'Rungs', command, machine, text, sections, raw }
    console.log((await save('rungs', results, { output })).join('\n'))
  }
  const complaints = [
    ...complaintsOf(failures),
    ...counts
      .filter(({ isEqual }) => !isEqual)
      .map(({ rung, layers }) => `${rung}, ${layers} layers: strace saw other calls`),
    ...watched
      .filter(
        ({ subject, id }) => subject !== CONTROL && tables.measured.get(id)?.some(({ excess }) => excess > 0),
      )
      .map(({ id }) => `${id}: the mount table showed more than the targets`),
  ]
  if (complaints.length > 0) throw new BenchError(complaints.join('\n'))
}

/** @typedef {{ name: string, isMapped: boolean }} Way a rung */

/** @param {Way} way @returns {'shared' | 'none'} */
const idmapOf = ({ isMapped }) => (isMapped ? 'shared' : 'none')

/** @param {Way[]} picked */
async function present(picked) {
  const ways = /** @type {Way[]} */ ([])
  const absences = /** @type {string[]} */ ([])
  for (const way of picked) {
    const task = /** @type {const} */ ({ measure: 'cycle', layers: 2, inFlight: 1 })
    const refusal = await findSubject(`overlayfd/${way.name}`).refuses({ ...task, idmap: idmapOf(way) })
    if (refusal === undefined) ways.push(way)
    else absences.push(`- ${way.name}: ${refusal}`)
  }
  return { ways, absences }
}

/** @param {string} directory @param {Way[]} ways @param {number[]} layers */
async function countAll(directory, ways, layers) {
  const count = await counter(directory)
  const cells = ways.flatMap(({ name, isMapped }) =>
    layers.map((number) => ({ rung: name, isMapped, layers: number })),
  )
  const progress = new Progress(cells.length)
  const counted = []
  try {
    for (const cell of cells) {
      progress.step(`strace: ${cell.rung}, ${cell.layers} layers`)
      counted.push({ ...cell, ...(await count(cell)) })
    }
  } finally {
    progress.end()
  }
  return counted
}

/** @param {Way[]} ways @param {number[]} layers @returns {import('../rounds.mjs').Cell[]} */
function timeCells(ways, layers) {
  const task = /** @type {const} */ ({ measure: 'cycle', inFlight: 1, isAlone: true })
  return layers.flatMap((number) => [
    ...ways.map((way) => ({
      id: `${way.name}, ${number} layers`,
      subject: `overlayfd/${way.name}/sync`,
      task: { ...task, layers: number, idmap: idmapOf(way) },
    })),
    {
      id: `${FLOOR}, ${number} layers`,
      subject: FLOOR,
      task: { ...task, layers: number, idmap: /** @type {const} */ ('shared') },
    },
  ])
}

/** @param {Way[]} ways @param {number} mounts @returns {import('../rounds.mjs').Cell[]} */
function tableCells(ways, mounts) {
  const task = /** @type {const} */ ({ measure: 'table', layers: 10, mounts })
  const cellsOf = (/** @type {Way} */ way) =>
    (way.isMapped ? /** @type {const} */ (['shared', 'own']) : /** @type {const} */ (['none'])).map(
      (idmap) => ({
        id: `${way.name}, ${MAPPINGS[idmap]}`,
        subject: `overlayfd/${way.name}`,
        task: { ...task, idmap, inFlight: 4 },
      }),
    )
  return [
    ...ways.flatMap(cellsOf),
    { id: CONTROL, subject: CONTROL, task: { ...task, idmap: /** @type {const} */ ('shared'), inFlight: 1 } },
  ]
}

const MAPPINGS = { shared: 'one mapping', own: 'a mapping each', none: 'no mapping' }

/** @param {{ rounds: number, milliseconds: number }} plan */
function howItWasMeasured({ rounds, milliseconds }) {
  return `Each mount is of a warm stack and has an upper; rungs that serve an idmap have the stack's. Calls are those of
\`strace -f\` on the library's own threads, between two marks of a process that makes one mount; waiting
and memory (futex, mmap, …) are not counted. strace sees no lock: writers of \`namespace_sem\` and grace periods follow from
the calls it saw, by the rules in test/support/lock-writes.ts, which were found by tracing Linux 6.18 and are written
apart from those that plans are counted by. Times: each cell is a process of its own that measures for
${milliseconds} ms, with nothing else under way; all cells take turns, in ${rounds} rounds, each begun elsewhere and every other one
backwards. The floor is bench/floor.c, variant b: an idmapped bind mount of the common parent, mount(2), and its umount.`
}
