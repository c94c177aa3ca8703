/** Test files of the sweep: with / private every operation, with / shared the first, which is a whole rootfs. */
import t, { type Test } from 'tap'
import type { RungName } from '../../lib/index.js'
import { startContainer } from '../support/container.js'
import { privileged } from '../support/needs.js'
import { type Propagation, propagations, withPropagation } from '../support/peers.js'
import { type Way, ways } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { otherOperations, rungOperations } from './operations.js'
import { type Operation, sweep } from './sweep.js'

const sweepAll = (name: string, operationsOf: (area: Scratch, t: Test) => Promise<Operation[]>): void => {
  for (const propagation of propagations) {
    t.test(`${name}, / ${propagation}`, privileged, async (t) => {
      const area = scratch(t)
      await withPropagation(t, propagation, async () => {
        const all = await operationsOf(area, t)
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
  const sum = { steps: 0, cases: 0 }
  for (const operation of operations) {
    const { steps, cases, problems } = await sweep(operation, seen)
    t.same(problems.slice(0, 20), [], operation.name)
    sum.steps += steps
    sum.cases += cases
  }
  t.ok(sum.cases > sum.steps, 'something was swept')
  // tap shows no comments of what passes
  console.error(`${name}, / ${propagation}: ${sum.steps} steps, ${sum.cases} steps × errnos swept`)
}

/** Everything that is done on a rung. */
export const sweepRung = (rung: RungName): void => {
  const way = ways.find((each) => each.rung === rung) as Way
  sweepAll(rung, async (area, t) => rungOperations(area, way, await startContainer(t)))
}

/** Binds, tmpfs, groups and handles. */
export const sweepOthers = (rung: 'direct' | 'classic'): void => {
  sweepAll(`others, ${rung}`, async (area) => otherOperations(area, rung))
}
