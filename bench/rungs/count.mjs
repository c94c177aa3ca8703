/**
 * What one warm mount costs, twice: by the plan, and by what strace(1) saw of the mount.
 *
 * strace shows calls. Writers of namespace_sem and grace periods follow from them by the rules that tracing the
 * kernel gave; those are in test/support/lock-writes.ts, written apart from the plans' own, and used from there.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import ts from 'typescript'
import { BenchError } from '../support/child.mjs'
import { OWN_NAMESPACE } from '../support/scratch.mjs'

const SUPPORT = fileURLToPath(new URL('../../test/support', import.meta.url))
const WARM_MOUNT = fileURLToPath(new URL('warm-mount.mjs', import.meta.url))

/**
 * @typedef {{ calls: number, writers: number, grace: number }} Counts
 * @typedef {{ plan: Counts, strace: Counts, isEqual: boolean }} Counted `isEqual`: call by call, too
 */

/**
 * @param {string} directory where modules of the tests are put as JavaScript
 * @returns {Promise<(what: { rung: string, isMapped: boolean, layers: number }) => Promise<Counted>>}
 */
export async function counter(directory) {
  const { straceProgram, between, isOfPlan, tally } = await load(directory, 'strace', 'child')
  const { lockWrites } = await load(directory, 'lock-writes')
  return async (what) => {
    const [program = '', ...args] = [...OWN_NAMESPACE, process.execPath, WARM_MOUNT]
    const traced = await straceProgram(program, [...args, JSON.stringify({ ...what, directory })])
    if (traced.status !== 0) throw new BenchError(`strace of ${what.rung} failed:\n${traced.stderr.trim()}`)
    const cost = JSON.parse(traced.stdout)
    const made = between(traced.calls, 'begin', 'end').filter(isOfPlan)
    const before = traced.calls.slice(0, traced.calls.indexOf(made[0]))
    const { writes, grace } = lockWrites(made, before, true)
    const plan = { calls: cost.syscalls, writers: cost.namespaceSemWrites, grace: cost.gracePeriods }
    const strace = { calls: made.length, writers: writes, grace }
    const isEqual = isSame(plan, strace) && isSame(cost.calls, tally(made))
    return { plan, strace, isEqual }
  }
}

/** @param {Record<string, number>} one @param {Record<string, number>} other */
const isSame = (one, other) =>
  [...new Set([...Object.keys(one), ...Object.keys(other)])].every((name) => one[name] === other[name])

/** The tests are TypeScript, which not every Node runs. @param {string} directory @param {...string} names */
async function load(directory, ...names) {
  const dir = join(directory, 'support')
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, 'package.json'), '{ "type": "module" }')
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 }
  for (const name of names) {
    const source = readFileSync(join(SUPPORT, `${name}.ts`), 'utf8')
    writeFileSync(join(dir, `${name}.js`), ts.transpileModule(source, { compilerOptions }).outputText)
  }
  return import(pathToFileURL(join(dir, `${names[0]}.js`)).href)
}
