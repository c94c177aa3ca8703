/**
 * `npm run bench -- trials`: every contender in every trial that it does not refuse, in turns.
 */
import { isKept, pick } from '../options.mjs'
import { complaintsOf, runRounds } from '../rounds.mjs'
import { allSubjects } from '../subjects/index.mjs'
import { BenchError } from '../support/child.mjs'
import { buildFloor } from '../support/floor.mjs'
import { describeMachine } from '../support/machine.mjs'
import { save, toTable } from '../support/results.mjs'
import { trials } from './index.mjs'
import { sectionsOf } from './sections.mjs'

/** @param {import('../options.mjs').RunOptions} options */
export async function run(options) {
  const { only, list, rounds, quick, output, directory, command } = options
  const picked = pick(trials, only).map((trial) => (quick ? shortened(trial) : trial))
  if (list) return console.log(picked.map(({ name, title }) => `${name.padEnd(24)}${title}`).join('\n'))

  const machine = await describeMachine()
  await buildFloor(directory)
  const subjects = await allSubjects()
  const entered = await enterAll(picked, subjects)
  const cells = entered.flatMap(({ entries }) => entries.map(({ cell }) => cell))
  const plan = { directory, rounds: rounds ?? (quick ? 1 : 5), milliseconds: quick ? 30 : 250 }
  const { measured, failures } = await runRounds(cells, plan)

  const sections = entered.flatMap(({ trial, entries, absences }) => {
    const found = entries.map(({ cell, value }) => ({
      subject: cell.subject,
      value,
      found: measured.get(cell.id) ?? [],
    }))
    return sectionsOf(trial, found, absences)
  })
  for (const { title, table } of sections) console.log(`${title}\n\n${table ? toTable(table) : ''}\n`)
  if (isKept(options)) {
    const raw = { plan: { ...plan, directory: undefined }, failures, cells: Object.fromEntries(measured) }
    const text = howItWasMeasured(plan)
    const all = [contenders(subjects, cells), ...sections]
    const results = { title: 'Trials', command, machine, text, sections: all, raw }
    console.log((await save('trials', results, { output })).join('\n'))
  }
  if (failures.length > 0) throw new BenchError(complaintsOf(failures).join('\n'))
}

/** Quick: the far end of what is varied, where most breaks. @param {import('./index.mjs').Trial} trial */
function shortened(trial) {
  return { ...trial, values: trial.values.slice(-1) }
}

/**
 * Asks every contender about every task.
 * @param {import('./index.mjs').Trial[]} picked
 * @param {import('../support/drive.mjs').Subject[]} subjects
 */
async function enterAll(picked, subjects) {
  return Promise.all(
    picked.map(async (trial) => {
      const entries = /** @type {{ value: number | string, cell: import('../rounds.mjs').Cell }[]} */ ([])
      const refusals = /** @type {Map<string, string>} */ (new Map())
      for (const { name, refuses } of subjects.filter(({ name }) => trial.contenders?.(name) ?? true)) {
        for (const value of trial.values) {
          const task = trial.task(value)
          const refusal = await refuses(task)
          if (refusal === undefined) {
            entries.push({ value, cell: { id: `${trial.name} ${value}: ${name}`, subject: name, task } })
          } else refusals.set(name, refusal)
        }
      }
      return { trial, entries, absences: absencesOf(entries, refusals) }
    }),
  )
}

/**
 * Who is in a trial shows in its table where it is not; why not is told of those who are nowhere in it.
 * @param {{ cell: import('../rounds.mjs').Cell }[]} entries
 * @param {Map<string, string>} refusals by name
 * @returns {string[]} one for each reason
 */
function absencesOf(entries, refusals) {
  const present = new Set(entries.map(({ cell }) => cell.subject))
  const absent = [...refusals].filter(([name]) => !present.has(name))
  return [...new Set(absent.map(([, why]) => why))].map((why) => {
    const names = absent.filter((one) => one[1] === why).map(([name]) => name)
    return `not in it: ${names.join(', ')}; ${why}`
  })
}

/** @param {import('../support/drive.mjs').Subject[]} subjects @param {import('../rounds.mjs').Cell[]} cells */
function contenders(subjects, cells) {
  const rows = subjects
    .filter(({ name }) => cells.some(({ subject }) => subject === name))
    .map(({ name, about }) => [name, about])
  return { title: 'Contenders', table: { columns: ['name', 'what it is'], rows } }
}

/** @param {{ rounds: number, milliseconds: number }} plan */
function howItWasMeasured({ rounds, milliseconds }) {
  return `Each cell is a process of its own that measures for ${milliseconds} ms; all cells take turns, in ${rounds} rounds,
each round begun elsewhere and every other one backwards. Numbers are medians over the rounds, ± half the distance of
the quartiles; latencies are medians in the process first. Throughput is counted until every superblock is gone.`
}
