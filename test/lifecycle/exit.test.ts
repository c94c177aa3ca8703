/**
 * However far a program has got and however it ends: it ends by itself, in time, without a crash, and leaves
 * nothing behind but complete mounts at the targets it was told. Stages and endings are data; stages.mjs
 * is the program, in a process of its own each time.
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root, run } from '../support/child.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { type Scratch, scratch } from '../support/scratch.js'

const program = join(root, 'test/lifecycle/stages.mjs')
const LAYERS = 4

/** Stages that need no right to mount. */
const unprivileged = [[], ['import']]
const stages = [
  ['sys'],
  ['import', 'open'],
  ['import', 'open-pending'],
  ['import', 'open', 'close'],
  ['import', 'open', 'close-pending'],
  ['import', 'open', 'mount'],
  ['import', 'open', 'detached'],
  ['import', 'open', 'mount', 'unmount-all'],
  ['import', 'open', 'mount', 'unmount-pending'],
  ['import', 'open', 'mount-pending'],
  ['import', 'open', 'mount-pending', 'close-pending'],
  ['import', 'open', 'mount-pending', 'unmount-all', 'close'],
  ['import', 'once-pending'],
  ['import', 'open', 'detached-pending'],
  ['import', 'open', 'mapping-pending'],
  ['import', 'open', 'aborted-pending'],
]
const endings = ['natural', 'process.exit', 'throw', 'worker.terminate'] as const
/** An exception that nobody catches ends as process.exit does, so only the stages that have the most open. */
const stagesOf = (ending: (typeof endings)[number]) =>
  ending === 'throw'
    ? stages.filter((names) => /^(mount|mapping)-pending$/.test(names.at(-1) as string))
    : stages

/** What may be seen afterwards: complete mounts at targets, which are taken away here. */
const leftovers = (area: Scratch): string[] => {
  const left = mounts().filter((mount) => isBelow(mount, area.path('containers')))
  const bad = left.filter(({ target, type }) => {
    const at = target.toString()
    return type !== 'overlay' || !/\/rootfs$/.test(at) || !existsSync(join(at, `only-${LAYERS - 1}`))
  })
  const targets = left.map(({ target }) => target.toString())
  if (targets.length > 0) execFileSync('umount', ['-n', '-l', ...targets])
  return bad.map(({ target, type }) => `${type} at ${target.toString()}`)
}

const ended = async (dir: string, names: readonly string[], ending: string) => {
  const flags = ending === 'gc' ? ['--expose-gc'] : []
  const result = await run(process.execPath, [...flags, program, dir, names.join(','), ending], {
    timeout: 20_000,
    // V8 collects garbage before it says what was covered, and then warns of what the end of a process drops
    env: { NODE_V8_COVERAGE: '' },
  })
  const { status, signal, isTimedOut, stdout, stderr } = result
  return { how: { status, signal, isTimedOut }, stdout, stderr }
}

const well = { status: 0, signal: null, isTimedOut: false }

t.test('without the right to mount', async (t) => {
  for (const names of unprivileged) {
    for (const ending of endings) {
      const { how, stderr } = await ended('/nowhere', names, ending)
      t.same(how, ending === 'throw' ? { ...well, status: 1 } : well, `${names.join(' ')} × ${ending}`)
      if (ending !== 'throw') t.equal(stderr, '', 'says nothing')
    }
  }
})

for (const ending of endings) {
  t.test(ending, privileged, async (t) => {
    const area = scratch(t)
    area.layers(LAYERS)
    area.mkdir('containers')
    for (const names of stagesOf(ending)) {
      const { how, stdout, stderr } = await ended(area.dir, names, ending)
      const name = names.join(' ')
      t.same(how, ending === 'throw' ? { ...well, status: 1 } : well, name)
      if (ending === 'throw') t.match(stderr, /Error: thrown on purpose/, `${name}: its own error`)
      else t.equal(stderr, '', `${name}: says nothing`)
      if (ending === 'worker.terminate') {
        const { before, after } = JSON.parse(stdout) as { before: number; after: string[] }
        // what a bare system call opened is its caller's, in whichever thread
        const own = names.includes('sys') ? 1 : 0
        t.equal(after.length, before + own, `${name}: no fd of the worker is open: ${after.join(' ')}`)
      }
      t.same(leftovers(area), [], `${name}: nothing half made`)
    }
  })
}

t.test('worker.terminate at random moments', privileged, async (t) => {
  const area = scratch(t)
  area.layers(LAYERS)
  area.mkdir('containers')
  for (const last of [
    'open-pending',
    'once-pending',
    'mount-pending',
    'mapping-pending',
    'detached-pending',
  ]) {
    const names = /^(open|once)/.test(last) ? ['import', last] : ['import', 'open', last]
    const { how, stdout, stderr } = await ended(area.dir, names, 'worker.terminate at random')
    t.same({ how, stderr }, { how: well, stderr: '' }, last)
    const { before, after } = JSON.parse(stdout) as { before: number; after: string[] }
    t.equal(after.length, before, `${last}: no fd is open: ${after.join(' ')}`)
    t.same(leftovers(area), [], `${last}: nothing half made`)
  }
})

t.test('what is dropped is collected, with a warning', privileged, async (t) => {
  const area = scratch(t)
  area.layers(LAYERS)
  area.mkdir('containers')
  const cases: [names: string[], warning: RegExp | null][] = [
    [['import', 'open'], /LayerStack/],
    [['import', 'open', 'detached'], /Rootfs/],
    [['import', 'open', 'close'], null],
  ]
  for (const [names, warning] of cases) {
    const { how, stdout } = await ended(area.dir, names, 'gc')
    t.same(how, well, names.join(' '))
    const { before, after, warnings } = JSON.parse(stdout) as {
      before: number
      after: string[]
      warnings: string[]
    }
    t.equal(after.length, before, `its fds are closed: ${after.join(' ')}`)
    if (warning) t.match(warnings.join('\n'), warning)
    else t.same(warnings, [])
  }
})
