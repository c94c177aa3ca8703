/**
 * Writes what the fuzzer begins with into a directory: programs of every rung as lib/ encodes them, programs of all
 * shapes that types allow, each also with runs of it, and a dictionary of the words that mean something. In the form of
 * program.cc: words of the program, seed of the answers, the program, what fills its holes or the runs.
 *
 *   node --import @tapjs/typescript/import test/fuzz/seeds.ts DIRECTORY DICTIONARY
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { explain, explainBind, explainTmpfs } from '../../lib/index.js'
import { type RungChoice, rungs } from '../../lib/overlay/choose.js'
import { encode, encodeFills, encodeRuns } from '../../lib/program/encode.js'
import { held, type Plan, PlanBuilder } from '../../lib/program/plan.js'
import { calls, type Fill } from '../../lib/program/step.js'
import { kernels } from '../overlay/kernels.js'
import { randomPlan } from '../program/random.js'
import { mapping } from '../support/userns.js'

const [dir, dictionary] = process.argv.slice(2) as [string, string]
mkdirSync(dir, { recursive: true })
let written = 0

/** kRuns of program.cc: what follows the program is not its fills, but runs of it */
const areRuns = 0x8000_0000

const write = (plan: Plan, fills: readonly Fill[] = []): void => {
  const program = encode(plan)
  const runs = [fills, fills, []].map((each, i) => ({ job: i + 1, program: 1, fills: each }))
  for (const flag of [0, areRuns]) {
    const { memory, words } = flag === 0 ? encodeFills(fills) : encodeRuns(runs)
    const rest = Uint8Array.prototype.slice.call(memory, 0, words * 4)
    // 0: every call works; else some fail, and what they find differs
    const head = new Uint32Array([program.length / 4 + flag, written % 8 < 2 ? 0 : written * 2654435761])
    writeFileSync(join(dir, `seed-${written++}`), Buffer.concat([Buffer.from(head.buffer), program, rest]))
  }
}

const lowerdir = ['/l/3', '/l/2', '/m/1']
const dirs = { upperdir: '/c/upper', workdir: '/c/work' }
const specs = [
  { lowerdir },
  { lowerdir, ...dirs, target: '/t' },
  { lowerdir, ...dirs, target: '/t', create: true, options: { volatile: 'reset' as const } },
  { lowerdir, ...dirs, target: '/t', idmap: mapping(100_000), upper: 'shifted' as const },
  { lowerdir, ...dirs, target: { path: '/t', mountNamespace: 7 }, idmap: mapping(100_000), checkUpper: true },
  { lowerdir: ['/one'], idmap: mapping(100_000) },
]

/** The plans of a call; a rung that is not there has none. */
const writePlans = (explained: () => { readonly plans: readonly Plan[] }): void => {
  let plans: readonly Plan[] = []
  try {
    plans = explained().plans
  } catch {}
  for (const plan of plans) write(plan)
}
for (const features of Object.values(kernels)) {
  for (const rung of ['auto', ...rungs] as RungChoice[]) {
    const how = { features, rung }
    for (const spec of specs) writePlans(() => explain(spec, how))
    writePlans(() => explainBind({ source: '/s', target: '/t', create: true }, how))
    writePlans(() => explainTmpfs({ target: '/t', options: { size: '1m' } }, how))
  }
}
for (const build of fc.sample(randomPlan, { numRuns: 100, seed: 1 })) write(build('plain'))

// what no explained plan has: holes, and an fd that the program takes over
const holes = new PlanBuilder('holes', 3)
const [name, mode] = [holes.hole('name'), holes.hole('mode')]
const input = holes.input('input', 1 << 20)
holes.add({ call: 'chdir', args: [{ kind: 'text', text: ['/proc/', name, '/', input] }] })
holes.add({
  call: 'fchmodat',
  args: [
    { kind: 'fd', fd: held(-100, 'cwd') },
    { kind: 'text', text: name },
    { kind: 'int', value: mode },
  ],
})
write(holes.build(), ['self', 0o644n])

const escaped = (word: number): string =>
  [0, 8, 16, 24].map((shift) => `\\x${((word >>> shift) & 0xff).toString(16).padStart(2, '0')}`).join('')
const words = new Set([0xffff, 0x1_0000, 0xffff_ffff, 1 << 20, ...Array(16).keys()])
// each call as a main, an undo and an always step, with flags
for (let call = 0; call < Object.keys(calls).length; call++) {
  for (const when of [0, 1, 2]) words.add(call | (when << 8))
  for (const flag of [1, 2, 4, 8, 16]) words.add(call | (flag << 16))
}
writeFileSync(dictionary, [...words].map((word) => `"${escaped(word)}"\n`).join(''))
console.log(`${written} seeds, ${words.size} words`)
