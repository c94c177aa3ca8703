/**
 * What `npm run test:kernels` runs after the tests of the runner: the bundled tests on each kernel, the running one
 * among them; each with a closing line of its own, and the sum of all at the end.
 *
 *   npm run test:kernels                      6.1, 6.12 and the running kernel
 *   npm run test:kernels -- 6.1 running       those
 *   npm run test:kernels:arm64                6.12 on emulated arm64
 *   npm run test:kernels -- --write           and writes the table of docs/kernel-features.md
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { follow } from '../support/run.mjs'
import { bundle } from './bundle.mjs'
import { check, factsOf, write } from './report.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
process.chdir(root)

const sum = { passed: 0, failed: 0, skipped: 0 }
/** @param {{ passed: number, failed: number, skipped: number }} result */
const count = ({ passed, failed, skipped }) => {
  sum.passed += passed
  sum.failed += failed
  sum.skipped += skipped
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
}

/** Without the programs of version managers: a python3 that is a shell script takes twelve seconds in a guest. */
const PATH = [dirname(process.execPath), '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'].join(
  ':',
)

/** By Debian's name of an architecture: what builds the addon for it on another. */
const crossCompilers = { arm64: 'aarch64-linux-gnu-g++' }

/**
 * Which node runs the bundle on a kernel, and with which addon: for another architecture than this process's the one
 * of test/kernels/programs, and an addon that is cross-built in a directory of its own.
 */
const nodeOf = (kernel) => {
  const architecture = kernel.split('-')[1] ?? process.arch
  if (architecture === process.arch) return { program: process.execPath, env: { PATH } }
  const CXX = crossCompilers[architecture]
  const env = { ...process.env, CXX }
  const built = CXX && spawnSync('test/memory/build', [architecture], { stdio: 'inherit', env }).status === 0
  if (!built)
    throw new Error(`no addon for ${architecture}: test/memory/build takes ${CXX ?? 'its compiler'}`)
  return { program: '/usr/bin/node', env: { OVERLAYFD_PREBUILD: join(root, 'build', architecture) } }
}

/** Runs the bundle, follows its TAP, and answers the line of facts in it. */
const runOn = async (kernel, file) => {
  // a preloaded file, for the mount namespace has to be left before the first thread starts
  const script = ['--require=./test/support/own-namespace.cjs', file]
  const isGuest = kernel !== 'running'
  const { program, env } = nodeOf(kernel)
  // what QEMU translates it translates once: code that is compiled as it runs costs a third more
  const node = [program, ...(isGuest ? ['--jitless', '--no-expose-wasm'] : []), ...script]
  const command = isGuest ? ['test/kernels/run', kernel, '--', ...node] : node
  const begin = performance.now()
  console.log(`\n# ${kernel}`)
  // the guest is slow, and slower beside others: its runner has the only limit
  const child = spawn(command[0], command.slice(1), {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env, TAP_TIMEOUT: '0' },
  })
  const ended = once(child, 'close')
  const output = follow((line) => console.log(line))
  let facts
  for await (const line of createInterface({ input: child.stdout })) {
    facts ??= factsOf(line)
    output.line(line)
  }
  const [status] = await ended
  const result = output.end()
  if (!result.isComplete) console.log(`ended without totals, status ${status}`)
  if (result.failed === 0 && (status !== 0 || !result.isComplete || !facts)) result.failed++
  count(result)
  console.log(`${kernel}: ${Math.round((performance.now() - begin) / 1000)} s`)
  return facts
}

const isWriting = process.argv.includes('--write')
const asked = process.argv.slice(2).filter((argument) => argument !== '--write')
const kernels = asked.length > 0 ? asked : ['6.1', '6.12', 'running']
if (process.getuid() !== 0) {
  console.log('test:kernels has to be root, to mount\n0 passed, 1 failed, 0 skipped')
  process.exit(1)
}
const tsc = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'], {
  stdio: 'inherit',
})
if (tsc.status !== 0) process.exit(1)
const file = await bundle()
const all = []
for (const kernel of kernels) {
  const facts = await runOn(kernel, file)
  // of a kernel that is fetched the document has to have a column
  if (facts) all.push({ ...facts, isRequired: kernel !== 'running' })
}
const doc = join(root, 'docs/kernel-features.md')
if (isWriting) write(doc, all)
else {
  const differences = check(doc, all)
  for (const difference of differences) console.log(difference)
  console.log('\n# docs/kernel-features.md, against these runs')
  count({ passed: all.length - differences.length, failed: differences.length, skipped: 0 })
}
console.log(`\n${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`)
if (sum.failed > 0 || sum.skipped > 0 || sum.passed === 0) process.exitCode = 1
