/**
 * Prints how much of lib/ a run with OVERLAYFD_COVERAGE=1 (test/support/run.mjs) has covered, and fails below the floor.
 *
 * node test/coverage/report.mjs [--files]    each file with lines that were not run, and which
 *
 * A line is one on which a statement begins, as Istanbul has it: comments, types and closing brackets are none. It was
 * run when one of its statements was; parts of statements are in the branches. Files that no process loaded count too.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CoverageReport } from 'monocart-coverage-reports'

const FLOOR = 95

const root = join(dirname(fileURLToPath(import.meta.url)), '../..')
const sum = join(root, 'build/coverage/sum')

/**
 * @typedef {{ covered: number, total: number }} Share
 * @typedef {{ path: string, notRun: number[], lines: Share, branches: Share, functions: Share }} File
 */

/**
 * @param {string} dir that has a sum of collect.mjs
 * @param {string} base of the package
 * @returns {Promise<File[]>}
 */
export const files = async (dir, base = root) => {
  const outputDir = join(dir, '..', 'report')
  const report = new CoverageReport({
    logging: 'error',
    reports: 'none',
    outputDir,
    baseDir: base,
    sourceFilter: () => true,
    // as the source map has it, from a directory of dist/: the reporter's own guess depends on where it is run
    sourcePath: (path, { url, distFile }) => (distFile === undefined ? path : url.replace(/^(\.\.\/)+/, '')),
  })
  await report.addFromDir(dir)
  const result = await report.generate()
  return (result?.files ?? []).map(({ sourcePath, source, data, summary }) => {
    const runs = linesOf(source ?? '', data?.statements ?? [])
    const notRun = [...runs].filter(([, isRun]) => !isRun).map(([line]) => line)
    return {
      path: sourcePath,
      notRun: notRun.sort((a, b) => a - b),
      lines: { covered: runs.size - notRun.length, total: runs.size },
      branches: summary.branches,
      functions: summary.functions,
    }
  })
}

/**
 * @param {string} source
 * @param {readonly { start: number, count: number }[]} statements
 * @returns {Map<number, boolean>} for each line on which a statement begins whether one of them was run
 */
export const linesOf = (source, statements) => {
  const ends = [...source.matchAll(/\n|$/g)].map((match) => match.index)
  const runs = new Map()
  for (const { start, count } of statements) {
    const line = ends.findIndex((end) => start <= end) + 1
    runs.set(line, count > 0 || (runs.get(line) ?? false))
  }
  return runs
}

/**
 * @param {readonly number[]} lines
 * @returns `3-5,9`
 */
export const ranges = (lines) => {
  const found = /** @type {[number, number][]} */ ([])
  for (const line of lines) {
    const last = found.at(-1)
    if (last?.[1] === line - 1) last[1] = line
    else found.push([line, line])
  }
  return found.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',')
}

/**
 * @param {readonly Share[]} shares
 */
export const total = (shares) => {
  const [covered, all] = [sumOf(shares, 'covered'), sumOf(shares, 'total')]
  return { covered, total: all, percent: all === 0 ? 0 : Math.floor((10000 * covered) / all) / 100 }
}

/**
 * @param {readonly Share[]} shares
 * @param {keyof Share} name
 */
const sumOf = (shares, name) => shares.reduce((result, share) => result + share[name], 0)

const main = async () => {
  if (!existsSync(sum)) {
    console.log(`${sum} is not there: OVERLAYFD_COVERAGE=1 npm test`)
    process.exit(1)
  }
  const all = await files(sum)
  if (process.argv.includes('--files')) {
    for (const { path, notRun } of all) if (notRun.length > 0) console.log(`${path}: ${ranges(notRun)}`)
  }
  for (const what of /** @type {const} */ (['lines', 'branches', 'functions'])) {
    const { percent, covered, total: count } = total(all.map((file) => file[what]))
    console.log(`lib/ ${what}: ${percent} % (${covered} of ${count})`)
  }
  const { percent } = total(all.map((file) => file.lines))
  if (percent < FLOOR) {
    console.log(`at least ${FLOOR} % of the lines of lib/ have to be run`)
    process.exit(1)
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main()
