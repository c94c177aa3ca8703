import t from 'tap'
import * as c from '../../lib/program/calls.js'
import { encodeFragment } from '../../lib/program/encode.js'
import { cwd, held, PlanBuilder } from '../../lib/program/plan.js'
import type { Step } from '../../lib/program/step.js'
import { planOf } from './programs.js'

const mkdir = (name: string): Step => c.mkdir(`/${name}`, 0o700)
/** Names of the directories that a plan's steps make. */
const names = (steps: readonly Step[]) => steps.map(({ args }) => (args[1] as { text: string }).text.slice(1))

t.test('main steps as added, undo steps and always steps the other way round', async (t) => {
  const [a, b, shared] = [mkdir('a'), mkdir('b'), mkdir('shared')]
  const plan = planOf((builder) => {
    builder.always(mkdir('always 1'), mkdir('always 2'))
    builder.undo(b, mkdir('undo b'))
    builder.add(a).undo(a, mkdir('undo a'), mkdir('undo a, then'))
    builder.fragment([shared])
    builder.add(b)
    builder.always(mkdir('always 3'))
  })
  const expected = [
    'a',
    'shared',
    'b',
    'undo a',
    'undo a, then',
    'undo b',
    'always 3',
    'always 1',
    'always 2',
  ]
  t.same(names(plan.steps), expected)
  t.same(
    plan.steps.map(({ when }) => when ?? 'main'),
    ['main', 'main', 'main', 'undo', 'undo', 'undo', 'always', 'always', 'always'],
  )
  t.same(
    plan.steps.slice(3).map(({ ifDone }) => ifDone),
    [a, a, b, undefined, undefined, undefined],
    'what they take back',
  )
  t.same(
    plan.parts.map((part) => part.length),
    [1, 1, 1, 6],
  )
})

t.test('steps by index, and indices of steps', async (t) => {
  const steps = ['a', 'b', 'c', 'd', 'e'].map(mkdir)
  const [a, b, d, e] = [steps[0]!, steps[1]!, steps[3]!, steps[4]!]
  const fragment = [steps[2]!]
  encodeFragment(fragment)
  const plan = planOf((builder) => {
    builder.add(a, b).fragment(fragment).add(d, e).always(mkdir('always'))
  })
  steps.forEach((step, i) => {
    t.equal(plan.at(i), step)
    t.equal(plan.indexOf(step), i)
  })
  t.match(plan.at(5), { when: 'always' })
  t.equal(plan.at(6), undefined)
  t.equal(plan.at(0xffff_ffff), undefined)
  t.equal(plan.indexOf(mkdir('a')), -1, 'an equal step is another')
})

t.test('slots, registers, inputs and outputs', async (t) => {
  const b = new PlanBuilder('x', 3, 2)
  const [first, second] = [b.slot('first'), b.slot('second')]
  const input = b.input('in', 42, 'tree')
  t.same(
    [first, second, input].map(({ slot }) => slot),
    [3, 4, 5],
  )
  t.same(
    [b.register('r'), b.register('s')],
    [
      { register: 2, name: 'r' },
      { register: 3, name: 's' },
    ],
  )
  t.equal(b.output(second), second)
  b.output(input)
  t.match(b.build(), {
    title: 'x',
    slots: 6,
    registers: 4,
    inputs: [[{ slot: 5, name: 'in', closes: 'tree' }, 42]],
    outputs: [second, input],
    parts: [],
  })
})

t.test('each note once', async (t) => {
  const plan = planOf((b) => void b.note('one', 'two').note('two', 'three', 'one'))
  t.same(plan.notes, ['one', 'two', 'three'])
})

t.test('what a plan says of itself', async (t) => {
  const plan = planOf((b) => {
    const tree = b.slot('tree')
    b.note('mind the gap')
      .add(c.cloneTree(tree, held(7, '/dir')))
      .always(c.close(tree))
  })
  const text = String(plan)
  t.match(text, /^test: 2 system calls, 2 namespace_sem writes, 1 grace periods, 0 temporary mounts\n/)
  t.same(JSON.parse(JSON.stringify(plan)), {
    title: 'test',
    cost: {
      namespaceSemWrites: 2,
      gracePeriods: 1,
      syscalls: 2,
      temporaryMounts: 0,
      calls: { open_tree: 1, close: 1 },
    },
    notes: ['mind the gap'],
    calls: text.split('\n'),
  })
  t.same(plan.cost, JSON.parse(JSON.stringify(plan)).cost)
})

t.test('the directory that stands for none', async (t) => {
  t.same(cwd, { fd: -100, name: 'AT_FDCWD' })
})
