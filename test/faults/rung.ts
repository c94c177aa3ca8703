/** Test files of the sweep: with / private every operation, with / shared the first, which is a whole rootfs. */
import t, { type Test } from 'tap'
import type { RungName } from '../../lib/index.js'
import { startContainer } from '../support/container.js'
import { hasMkfsErofs } from '../support/images.js'
import { all as allOf, privileged } from '../support/needs.js'
import { type Propagation, propagations, withPropagation } from '../support/peers.js'
import { type Way, ways } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { autoOperations, otherOperations, rungOperations } from './operations.js'
import { type Operation, sweep } from './sweep.js'

const sweepAll = (name: string, operationsOf: (area: Scratch, t: Test) => Promise<Operation[]>): void => {
  for (const propagation of propagations) {
    t.test(`${name}, / ${propagation}`, allOf(privileged, hasMkfsErofs), async (t) => {
      const area = scratch(t)
      // a disk that they mount is to be nobody else's
      const all = await operationsOf(area, t)
      await withPropagation(t, propagation, async () => {
        await sweepEach(t, name, propagation === 'private' ? all : all.slice(0, 1), propagation)
      })
    })
  }
}

const sweepEach = async (
  t: Test,
  name: string,
  operations: readonly Operation[],
  propagation: Propagation,
): Promise<void> => {
  const seen = new Set<string>()
  const sum = { steps: 0, cases: 0, undo: new Set<string>(), reached: new Set<string>() }
  const begin = performance.now()
  for (const operation of operations.filter(({ name }) => chosen.test(name))) {
    const { steps, cases, undo, problems } = await sweep(operation, seen)
    t.same(problems.slice(0, 20), [], operation.name)
    sum.steps += steps
    sum.cases += cases
    for (const each of undo.all) sum.undo.add(each)
    for (const each of undo.reached) sum.reached.add(each)
  }
  t.ok(sum.cases > sum.steps || chosen.source !== '(?:)', 'something was swept')
  const missed = [...sum.undo].filter((each) => !sum.reached.has(each))
  const isWhole = propagation === 'private' && chosen.source === '(?:)'
  if (isWhole) t.same(missed, [], 'a fault has led to each step that takes something back')
  // tap shows no comments of what passes
  console.error(
    `${name}, / ${propagation}: ${sum.steps} steps, ${sum.cases} steps × errnos swept; undo steps reached: ` +
      `${sum.undo.size - missed.length} of ${sum.undo.size}; ${Math.round((performance.now() - begin) / 1000)} s`,
  )
}

/** While something is worked on: those whose name matches. */
const chosen = new RegExp(process.env['OVERLAYFD_FAULTS_ONLY'] ?? '')

/** Everything that is done on a rung. */
export const sweepRung = (rung: RungName): void => {
  const way = ways.find((each) => each.rung === rung) as Way
  sweepAll(rung, async (area, t) => rungOperations(area, way, await startContainer(t)))
}

/** Binds, tmpfs, groups and handles. */
export const sweepOthers = (rung: 'direct' | 'classic'): void => {
  sweepAll(`others, ${rung}`, async (area) => otherOperations(area, rung))
}

/** `auto`. */
export const sweepAuto = (): void => {
  sweepAll('auto', async (area) => autoOperations(area))
}
