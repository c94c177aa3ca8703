/**
 * What `npm test` runs: tap over the files that .taprc names, or over those given as arguments.
 *
 * Prints one line a file, what failed in full, each reason for a skip with how often, and at last
 * `N passed, N failed, N skipped`, from tap's own totals. Ends with 1 when something failed, when nothing ran,
 * and when root skipped anything: a privileged run must run everything. Outside of CI one reason is forgiven,
 * a program that is not installed (needs.ts), because nothing but Node and a compiler is promised to be enough.
 *
 * First it brings dist/ up to date, which the tests with child processes load. With OVERLAYFD_COVERAGE=1 it writes down
 * what of lib/ was run, in all processes, for test/coverage/report.mjs.
 */
import { spawn, spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '../..')
const NO_PROGRAM = 'no program'

/**
 * Follows tap's output line by line. A file's block is shown when it ends: its result alone if it passed.
 * @param {(line: string) => void} print
 */
export const follow = (print) => {
  const skips = new Map()
  let block = []
  let broken = 0
  let totals = null
  let isDiagnosis = false
  return {
    line(text) {
      // what tap has to say of a file itself: how it ended
      if (text === '  ---' && block.length === 0) isDiagnosis = true
      if (isDiagnosis) {
        if (!/^ {2}(---|\.\.\.|stdio:|args:|command:| {2}- )/.test(text)) print(text)
        isDiagnosis = text !== '  ...'
        return
      }
      const counted = /^# \{ (total: .*) \}$/.exec(text)
      if (counted) totals = Object.fromEntries(counted[1].split(', ').map((pair) => pair.split(': ')))
      const skip = /^\s*ok \d+.*?# SKIP ?(.*)$/.exec(text)
      if (skip) skips.set(skip[1] || 'no reason', (skips.get(skip[1] || 'no reason') ?? 0) + 1)
      if (/^(not )?ok \d/.test(text)) {
        const isBad = text.startsWith('not ')
        // a file that ended badly after assertions that all held; one without any is counted by tap itself
        const held = block.filter((each) => /^\s+(not )?ok \d/.test(each))
        if (isBad && held.length > 0 && held.every((each) => /^\s+ok/.test(each))) broken++
        if (isBad) for (const each of block) if (!/^\s+(ok \d|1\.\.|$)/.test(each)) print(each)
        print(text)
        block = []
      } else if (/^(# Subtest|\s)/.test(text)) {
        block.push(text)
      } else if (!/^(TAP version|1\.\.|$|# No coverage)/.test(text)) {
        print(text)
      }
    },
    end() {
      for (const each of block) print(each)
      const number = (name) => Number(totals?.[name] ?? 0)
      return {
        passed: number('pass'),
        failed: number('fail') + broken,
        skipped: number('skip') + number('todo'),
        skips,
        isComplete: totals !== null,
      }
    },
  }
}

/**
 * What is wrong with a run, in words; none when it is good.
 * @param {{ passed: number, failed: number, skipped: number, skips: Map<string, number>, isComplete: boolean }} result
 * @param {{ status: number | null, isRoot: boolean, isCI: boolean }} run
 * @returns {string[]}
 */
export const complaints = (result, { status, isRoot, isCI }) => {
  const forgiven = isCI ? 0 : sum(result.skips, (reason) => reason.startsWith(`${NO_PROGRAM}:`))
  const found = []
  if (!result.isComplete) found.push('tap ended without its totals')
  else if (result.passed + result.failed + result.skipped === 0) found.push('no test was run')
  if (status !== 0 && result.failed === 0) found.push(`tap ended with status ${status}`)
  if (isRoot && result.skipped > forgiven) found.push('as root nothing may be skipped')
  return found
}

const sum = (counts, isMeant) =>
  [...counts].reduce((total, [reason, count]) => total + (isMeant(reason) ? count : 0), 0)

const newest = (dir) =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce(
      (time, entry) => Math.max(time, statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs),
      0,
    )

const refreshDist = () => {
  const [lib, dist] = [join(root, 'lib'), join(root, 'dist')]
  if (existsSync(dist) && newest(dist) >= newest(lib)) return
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  const { status } = spawnSync(process.execPath, [tsc, '--noEmitOnError', '-p', 'tsconfig.build.json'], {
    cwd: root,
    stdio: 'inherit',
  })
  if (status !== 0) process.exit(1)
}

/** What the processes of a run write is summed every other second, or it would be some gigabytes. */
const cover = async () => {
  const { Collector } = await import('../coverage/collect.mjs')
  const sum = join(root, 'build/coverage/sum')
  const collector = new Collector(join(root, 'build/coverage/processes'), root)
  rmSync(sum, { recursive: true, force: true })
  mkdirSync(sum, { recursive: true })
  const timer = setInterval(() => collector.poll(), 2000)
  return {
    env: { NODE_V8_COVERAGE: collector.dir },
    end: () => {
      clearInterval(timer)
      console.log(`# coverage of ${collector.finish(join(sum, 'coverage-lib.json'))} processes`)
    },
  }
}

const main = async (files) => {
  process.chdir(root)
  try {
    mkdirSync('.tap', { recursive: true })
    accessSync('.tap', constants.W_OK)
  } catch (error) {
    console.error(
      `npm test writes to ${join(root, '.tap')}: ${error.message}\nRemove it, or run in a copy of your own.`,
    )
    process.exit(1)
  }
  refreshDist()
  const coverage = process.env.OVERLAYFD_COVERAGE === '1' ? await cover() : undefined
  const tap = join(root, 'node_modules/tap/dist/esm/run.mjs')
  const child = spawn(process.execPath, [tap, '--reporter=tap', ...files], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...coverage?.env },
  })
  const output = follow((line) => console.log(line))
  const ended = new Promise((resolve) => child.once('close', resolve))
  for await (const line of createInterface({ input: child.stdout })) output.line(line)
  const status = await ended
  coverage?.end()
  const result = output.end()
  for (const [reason, count] of result.skips) console.log(`skipped ${count}: ${reason}`)
  const found = complaints(result, {
    status,
    isRoot: process.getuid() === 0,
    isCI: !['', undefined, '0', 'false'].includes(process.env.CI),
  })
  for (const complaint of found) console.log(complaint)
  const failed = result.failed + (result.failed === 0 ? found.length : 0)
  console.log(`${result.passed} passed, ${failed} failed, ${result.skipped} skipped`)
  if (failed > 0) process.exitCode = 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2))
