/**
 * `npm run bench -- figures`: the table of figures to reach, all of it from one run whose cells take turns.
 *
 * A figure that is missed is a result, not a failure; a cell that fails, or fds that stay open, are.
 */
import { isKept, pick } from '../options.mjs'
import { complaintsOf, runRounds } from '../rounds.mjs'
import { dotChart } from '../support/chart.mjs'
import { BenchError } from '../support/child.mjs'
import { buildFloor } from '../support/floor.mjs'
import { describeMachine } from '../support/machine.mjs'
import { save, toTable } from '../support/results.mjs'
import { checksOf, evaluate, measurementsOf, tableOf } from './evaluate.mjs'
import { figures } from './figures.mjs'

/** @param {import('../options.mjs').RunOptions} options */
export async function run(options) {
  const { only, list, rounds, quick, output, directory, command } = options
  const picked = pick(figures, only).map((figure) => (quick ? shortened(figure) : figure))
  if (list) return console.log(picked.map(({ name, what }) => `${name.padEnd(20)}${what}`).join('\n'))

  const machine = await describeMachine()
  await buildFloor(directory)
  const cells = cellsOf(picked)
  const plan = { directory, rounds: rounds ?? (quick ? 1 : 9), milliseconds: quick ? 60 : 400 }
  const { measured, failures } = await runRounds(cells, plan)

  const verdicts = picked.map((figure) => evaluate(figure, measured))
  const checks = cells.flatMap((cell) => checksOf(cell, measured.get(cell.id) ?? []))
  const sections = [
    { title: 'Figures', table: tableOf(verdicts), chart: { name: 'ratios', spec: chartOf(verdicts) } },
    {
      title: 'Equal before and after',
      table: {
        columns: ['what', 'found', ''],
        rows: checks.map(({ what, found, isGood }) => [what, found, isGood ? 'good' : '**not good**']),
      },
    },
  ]
  for (const { title, table } of sections) console.log(`${title}\n\n${toTable(table)}\n`)
  if (isKept(options)) {
    const raw = {
      plan: { ...plan, directory: undefined },
      verdicts,
      checks,
      failures,
      cells: Object.fromEntries(measured),
    }
    const text = howItWasMeasured(plan)
    const results = { title: 'Figures to reach', command, machine, text, sections, raw }
    console.log((await save('figures', results, { output })).join('\n'))
  }
  const bad = checks.filter(({ isGood, what }) => !isGood && what.startsWith('open fds'))
  const complaints = [...complaintsOf(failures), ...bad.map(({ what, found }) => `${what}: ${found}`)]
  if (complaints.length > 0) throw new BenchError(complaints.join('\n'))
}

/** Quick: fewer numbers of threads of the floor. @param {import('./figures.mjs').Figure} figure */
function shortened(figure) {
  const against = figure.against.filter(
    ({ cell }) => !cell.subject.startsWith('floor/') || cell.task.inFlight <= 2,
  )
  return { ...figure, against }
}

/** @param {import('./figures.mjs').Figure[]} picked @returns {import('../rounds.mjs').Cell[]} each once */
function cellsOf(picked) {
  const all = picked.flatMap((figure) => measurementsOf(figure).map(({ cell }) => cell))
  return [...new Map(all.map((cell) => [cell.id, cell])).values()]
}

/** @param {{ rounds: number, milliseconds: number }} plan */
function howItWasMeasured({ rounds, milliseconds }) {
  return `Each cell is a process of its own that measures for ${milliseconds} ms; all cells take turns, in ${rounds}
rounds, each round begun elsewhere and every other one backwards. Numbers are medians over the rounds, ± half the
distance of the quartiles; latencies are medians in the process first. The clock of a throughput stops after
\`mounter.idle()\`, when every superblock is gone. The floor is bench/floor.c, whose umount2 ends with the superblock;
"best of" is the one with the best median, over variants and 1, 2, 4, 8, 16 threads. CPU time is that of mounts whose
results the thread looks at together; \`awaited\` in the JSON is that of mounts awaited one by one, with a wake-up in
each, which costs more the longer the thread has slept.`
}

/** @param {import('./evaluate.mjs').Verdict[]} verdicts */
function chartOf(verdicts) {
  const points = verdicts.flatMap(({ name, asked, limit, ratio }) => [
    { x: `${name}, asked ${asked}`, series: 'asked', y: limit },
    { x: `${name}, asked ${asked}`, series: 'measured', y: ratio },
  ])
  return dotChart({ title: 'Figures to reach', y: 'ratio', points })
}
