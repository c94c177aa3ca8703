/**
 * The benchmark is run as a user would run it, quickly: that it measures, writes what it says, fails when something
 * breaks, and leaves nothing behind.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Ended, root, run } from '../support/child.js'
import { mounts } from '../support/mountinfo.js'
import { all, privileged, programs } from '../support/needs.js'

const main = join(root, 'bench/main.mjs')
const needs = all(privileged, programs('cc', 'unshare', 'mount', 'umount'))

/** Processes that were started with this in their environment. */
const processesWith = (text: string): string[] =>
  readdirSync('/proc').filter((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/environ`).includes(text)
    } catch {
      return false // gone, or another user's
    }
  })

/** What was killed is in /proc a moment longer. */
const left = async (text: string): Promise<string[]> => {
  const end = performance.now() + 5000
  while (processesWith(text).length > 0 && performance.now() < end) await sleep(20)
  return processesWith(text)
}

/** Runs it with a temporary directory of its own; fails the test where anything is left of it. */
const runBench = async (t: Test, args: string[], command = [process.execPath, main]): Promise<Ended> => {
  const directory = mkdtempSync(join(tmpdir(), 'overlayfd-bench-test-'))
  const mounted = mounts()
  try {
    const [program = '', ...first] = command
    const ended = await run(program, [...first, ...args], { env: { TMPDIR: directory } })
    t.same(readdirSync(directory), [], 'no temporary directory is left')
    t.same(mounts(), mounted, 'no mount is left')
    t.same(await left(directory), [], 'no process is left')
    return ended
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const outputDirectory = (t: Test): string => {
  const output = mkdtempSync(join(tmpdir(), 'overlayfd-bench-test-'))
  t.teardown(() => rmSync(output, { recursive: true }))
  return output
}

const escaped = (text: string): string => text.replaceAll(/[()]/g, '\\$&')

t.test('--help and --list', async (t) => {
  const help = await runBench(t, ['--help'])
  t.match(help, { status: 0, stdout: /^Usage: npm run bench/ })
  const list = await runBench(t, ['--list'])
  t.match(list, { status: 0, stdout: /^layers +Layers, idmapped$/m })
  t.match(await runBench(t, ['figures', '--list']), { status: 0, stdout: /^storm-50 /m })
})

t.test('what is wrong is told in one line', async (t) => {
  const ended = await runBench(t, ['figures', '--only', 'fast', '--list'])
  t.equal(ended.status, 1)
  t.match(ended.stderr, /^bench: --only must be one of storm-50, .*; not 'fast'\n$/)
})

t.test('a figure', needs, async (t) => {
  const output = outputDirectory(t)
  const args = ['figures', '--quick', '--only', 'storm-50', '--only', 'awaited', '--output', output]
  const { status, stdout, stderr } = await runBench(t, args)
  t.equal(status, 0, stderr)
  t.match(stdout, /^\| storm-50 \|.*\| (reached|\*\*missed\*\*) \|$/m)
  t.match(stdout, /^\| awaited \|.*access \d.*\| (reached|\*\*missed\*\*) \|$/m)
  t.match(stdout, /^\| open fds, .* \| good \|$/m)
  t.same(readdirSync(output), ['figures-ratios.svg', 'figures.json', 'figures.md'])
  const { machine, command, raw } = JSON.parse(readFileSync(join(output, 'figures.json'), 'utf8'))
  t.match(machine, { cpus: Number, kernel: String })
  t.equal(command, 'npm run bench -- figures --only storm-50 --only awaited --quick')
  t.same(raw.failures, [])
})

t.test('a trial', needs, async (t) => {
  const output = outputDirectory(t)
  const args = ['--quick', '--only', 'layers', '--only', 'layers-without-idmap', '--output', output]
  const { status, stdout, stderr } = await runBench(t, args)
  t.equal(status, 0, stderr)
  const subjects = [
    'overlayfd/detached-tree',
    'overlayfd/direct/sync',
    'floor/m',
    'per-layer (sys)',
    'common-parent (sys)',
  ]
  for (const subject of [...subjects, 'FFI (koffi)', 'mount(8)']) {
    t.match(stdout, new RegExp(`^\\| ${escaped(subject)} \\| [\\d,.]+ \\|$`, 'm'), subject)
  }
  t.match(stderr, /^\[1\/\d+\] round 1: /, 'progress')
  const charts = [
    'layers-compose',
    'layers-teardown',
    'layers-without-idmap-compose',
    'layers-without-idmap-teardown',
  ]
  t.same(readdirSync(output), [...charts.map((name) => `trials-${name}.svg`), 'trials.json', 'trials.md'])
})

t.test('what fails is a failure, and the rest is measured', all(needs, programs('prlimit')), async (t) => {
  // with so few fds a stack of 500 layers cannot be opened, and one of a single layer can
  const limited = ['prlimit', '--nofile=300:300', process.execPath, main]
  const { status, stdout, stderr } = await runBench(t, ['figures', '--quick', '--only', 'processor'], limited)
  t.equal(status, 1)
  t.match(stdout, /^\| processor \|.*\| – µs \| \d.*\| \*\*not measured\*\* \|$/m)
  t.match(
    stderr,
    /^bench: overlayfd\/detached-tree: processor, 500 layers[^\n]*\n {2}it failed \(exit code 1\):\n[\s\S]*EMFILE/m,
  )
  t.notMatch(stderr, /^bench:[\s\S]*processor, 1 layer/m)
})

t.test('it can be ended at any time', all(needs, programs('timeout')), async (t) => {
  const command = ['timeout', '--foreground', '--signal=TERM', '2', process.execPath, main]
  const { status } = await runBench(t, ['figures', '--only', 'per-layer'], command)
  t.equal(status, 124, 'by the signal')
  const lock = await runBench(t, ['lock', '--rounds', '9'], command)
  t.equal(lock.status, 124, 'the same for a part that does not mount')
})
