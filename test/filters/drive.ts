/**
 * Runs each scenario behind each filter, and compares what came of it with what is to come and with what comes of it
 * without a filter. A child serves for all scenarios of a filter.
 */
import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import type { Test } from 'tap'
import { type Container, startContainer } from '../support/container.js'
import { imagesOf } from '../support/images.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { type Propagation, withPropagation } from '../support/peers.js'
import { image } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import type { Filter, Outcome } from './cases.js'
import { type Filtered, Refused, startFiltered } from './filtered.js'
import { type Result, type Scenario, type Stage, scenarios, watchChild } from './scenarios.js'

type Left = Stage['left']

/** Mounts a rootfs for each filter and each of these, and ends: what others find of a process that has died. */
const leave = async (t: Test, area: Scratch, lowerdir: readonly string[], names: readonly string[]) => {
  const owner = await startFiltered(t, [])
  const left = new Map<string, Left>()
  for (const name of names) {
    const at = area.container(name.replaceAll(' ', '-'), area.mkdir('left'))
    await owner.ask('begin', { rung: 'auto' })
    if (name.endsWith(' opened'))
      await owner.ask('bind', { options: { source: lowerdir[0], target: at.target } })
    else await owner.ask('mount', { options: { lowerdir, ...at } })
    left.set(name, { target: at.target, json: await owner.ask<string>('json') })
    await owner.ask('end')
  }
  t.equal(await owner.stop(), '', 'the owner has ended well')
  return left
}

const attempt = async (child: Filtered, scenario: Scenario, stage: Stage): Promise<Result | Refused> => {
  try {
    await child.ask('begin', { rung: scenario.rung ?? 'auto' })
    return await scenario.run(child, stage)
  } catch (error) {
    if (error instanceof Refused) return error
    throw error
  }
}

/** What a refused unmount has left, taken down from here. @returns how many mounts that were */
const clear = ({ area, other, left }: Stage): number => {
  const dirs = [area.path('containers/rootfs'), area.path('containers/rootfs-2'), left.target]
  const here = mounts().filter((mount) => dirs.some((dir) => isBelow(mount, dir)))
  // what is below others first
  for (const { target } of here.reverse()) execFileSync('umount', ['-n', '-l', target.toString()])
  const there = other.mounts().filter(({ target }) => target.toString() === '/rootfs')
  if (there.length > 0) other.sh('umount -n -l /rootfs')
  return here.length + there.length
}

const judge = (t: Test, result: Result | Refused, wanted: Outcome | undefined, plain: Result): void => {
  if (wanted && 'error' in wanted) {
    t.match(result instanceof Refused ? result.message : `it works, by ${result.rung}`, wanted.error)
    return
  }
  if (result instanceof Refused) {
    t.fail(result.message)
    return
  }
  t.equal(result.rung, wanted ? wanted.rung : plain.rung)
  if (wanted) t.match(result.notes?.join('\n'), wanted.note)
  else t.same(result.notes, plain.notes)
  t.same(result.seen, plain.seen, 'the same mount as without a filter')
}

const runFilter = async (
  t: Test,
  filter: Filter,
  stageOf: (name: string) => Stage,
  plain: Map<string, Result>,
): Promise<void> => {
  const child = await startFiltered(t, filter.rules, filter)
  for (const scenario of scenarios) {
    await t.test(scenario.name, async (t) => {
      const stage = stageOf(`${filter.name} ${scenario.name}`)
      const left = watchChild(child, stage)
      const result = await attempt(child, scenario, stage)
      const wanted = filter.expected[scenario.name]
      const baseline = plain.get(scenario.name) ?? (result as Result)
      plain.set(scenario.name, baseline)
      judge(t, result, wanted, baseline)
      if (wanted && 'stays' in wanted) t.ok(clear(stage) <= 3, 'at most what was mounted is there')
      await child.ask('end')
      t.same(await left(), [], 'nothing is left')
      for (const part of ['upper', 'work']) {
        for (const name of ['rootfs', 'rootfs-2'])
          rmSync(stage.area.path('containers', name, part), { recursive: true, force: true })
      }
    })
  }
  t.equal(await child.stop(), '', 'it ends well')
}

const none: Filter = { name: 'no filter', rules: [], expected: {} }
const taking = ['open', 'opened', 'reconcile']

/** All scenarios behind all of these filters. */
export const driveFilters = async (
  t: Test,
  filters: readonly Filter[],
  propagation: Propagation,
): Promise<void> => {
  const area = scratch(t)
  const lowerdir = image(area)
  const { images } = imagesOf(area, lowerdir)
  const other: Container = await startContainer(t)
  await withPropagation(t, propagation, async () => {
    const all = [none, ...filters]
    const names = all.flatMap(({ name }) => taking.map((scenario) => `${name} ${scenario}`))
    const left = await leave(t, area, lowerdir, names)
    const nowhere: Left = { target: area.path('nowhere'), json: '' }
    // tap shows no comments of what passes
    const cases = filters.length * scenarios.length
    console.error(
      `${filters.length} filters × ${scenarios.length} scenarios = ${cases} cases, / ${propagation}`,
    )
    const plain = new Map<string, Result>()
    for (const filter of all) {
      await t.test(filter.name, (t) =>
        runFilter(
          t,
          filter,
          (name) => ({ area, lowerdir, images, other, left: left.get(name) ?? nowhere }),
          plain,
        ),
      )
    }
  })
}
