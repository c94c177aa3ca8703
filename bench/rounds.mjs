/**
 * Runs cells in rounds: each cell is one process, cells take turns, and each round begins elsewhere, so that a machine
 * that gets slower meanwhile is unfair to nobody. A cell that fails is left out from then on; the others go on.
 */
import { fileURLToPath } from 'node:url'
import { runChild } from './support/child.mjs'
import { Progress } from './support/progress.mjs'
import { OWN_NAMESPACE } from './support/scratch.mjs'

const RUN_TRIAL = fileURLToPath(new URL('run-trial.mjs', import.meta.url))

/**
 * @typedef {object} Task what is done, by whichever contender
 * @property {'cycle' | 'batch' | 'teardown' | 'processor' | 'first' | 'table'} measure
 * @property {number} layers
 * @property {'none' | 'shared' | 'own'} idmap one mapping for all, or one each
 * @property {number} inFlight
 * @property {number} [table] mounts beside
 * @property {number} [mounts] how many, where that is not a matter of time
 * @property {boolean} [isCold] nothing is open before: mountOverlay instead of a LayerStack
 * @property {boolean} [isAlone] nothing is under way when the next mount begins
 * @property {boolean} [isChecked] fds and Slab are looked at too
 * @property {'one by one' | 'at once' | 'grouped'} [order] of a teardown
 *
 * @typedef {object} Cell
 * @property {string} id
 * @property {string} subject the contender's name
 * @property {Task} task
 *
 * @typedef {Record<string, any>} Measured what one process measured, by the names of the measure
 */

/**
 * @param {Cell[]} cells
 * @param {{ directory: string, rounds: number, milliseconds: number }} options `milliseconds` that each cell may
 *   measure, a round
 * @returns {Promise<{ measured: Map<string, Measured[]>, failures: { id: string, message: string }[] }>} by id, in
 *   the order of rounds
 */
export async function runRounds(cells, { directory, rounds, milliseconds }) {
  const measured = new Map(cells.map(({ id }) => [id, /** @type {Measured[]} */ ([])]))
  const failures = /** @type {{ id: string, message: string }[]} */ ([])
  const progress = new Progress(cells.length * rounds)
  try {
    for (let round = 0; round < rounds; round++) {
      for (const cell of rotated(cells, round, rounds)) {
        progress.step(`round ${round + 1}: ${cell.id}`)
        if (failures.some(({ id }) => id === cell.id)) continue
        try {
          measured.get(cell.id)?.push(await runCell(cell, directory, milliseconds))
        } catch (error) {
          failures.push({ id: cell.id, message: /** @type {Error} */ (error).message })
        }
      }
    }
  } finally {
    progress.end()
  }
  return { measured, failures }
}

/**
 * One fault makes many cells fail: each reason is told once.
 * @param {{ id: string, message: string }[]} failures
 * @returns {string[]} none where nothing failed
 */
export function complaintsOf(failures) {
  const reasons = new Set(failures.map(({ message }) => message))
  return [...reasons].map((reason) => {
    const ids = failures.filter(({ message }) => message === reason).map(({ id }) => id)
    return `${ids.join('\n')}\n  ${reason.replaceAll('\n', '\n  ')}`
  })
}

/**
 * @template T
 * @param {T[]} list
 * @param {number} round from 0
 * @param {number} rounds
 * @returns {T[]} beginning elsewhere in each round; every other round backwards, so that neighbours change sides
 */
export function rotated(list, round, rounds) {
  const from = Math.floor((list.length * round) / rounds)
  const turned = [...list.slice(from), ...list.slice(0, from)]
  return round % 2 === 0 ? turned : turned.reverse()
}

/**
 * @param {Measured} found
 * @param {string} path `compose.p50`
 * @returns {number} NaN where there is none
 */
export function valueAt(found, path) {
  return Number(path.split('.').reduce((value, name) => value?.[name], /** @type {any} */ (found)))
}

/** @param {Cell} cell @param {string} directory @param {number} milliseconds @returns {Promise<Measured>} */
async function runCell({ subject, task }, directory, milliseconds) {
  const [command = '', ...args] = [...OWN_NAMESPACE, process.execPath, RUN_TRIAL]
  const text = await runChild(command, args, {
    input: JSON.stringify({ subject, task, directory, milliseconds }),
    seconds: 120,
    what: 'it',
  })
  return JSON.parse(text)
}
