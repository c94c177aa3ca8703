/** Processes over a package of two files: what they ran is summed, in both shapes of lib/, and named by its lines. */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import ts from 'typescript'
import { runModule } from '../support/child.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'

interface Range {
  readonly startOffset: number
  readonly endOffset: number
  readonly count: number
}
interface Report {
  result: { url: string; functions: { functionName: string; ranges: Range[] }[] }[]
  'source-map-cache'?: Record<string, { lineLengths: number[] }>
}
interface Share {
  readonly covered: number
  readonly total: number
}
interface Parts {
  Collector: new (
    dir: string,
    root: string,
  ) => { poll(): void; add(report: Report): void; finish(file: string): number }
  files(
    dir: string,
    base: string,
  ): Promise<{ path: string; notRun: number[]; lines: Share; branches: Share; functions: Share }[]>
  ranges(lines: readonly number[]): string
  total(shares: readonly Share[]): Share & { percent: number }
}
const load = async (name: string): Promise<Parts> => import(new URL(name, import.meta.url).href)
const { Collector } = await load('collect.mjs')
const { files, ranges, total } = await load('report.mjs')

const source = `/** not a line */
export interface Pair {
  readonly a: number
}
export const one = (pair: Pair): number => {
  if (pair.a > 1) return 1
  return pair.a
}
export function two(): string {
  return 'two'
}
`

/** What a run has: a package, compiled as lib/ is, and a directory that processes write to. */
const packaged = (t: Test) => {
  const area = scratch(t)
  const root = area.dir
  for (const name of ['lib', 'dist', 'sum']) mkdirSync(join(root, name))
  for (const [name, text] of Object.entries({ a: source, b: 'export const never = () => 1\n' })) {
    const { outputText, sourceMapText } = ts.transpileModule(text, {
      fileName: `${name}.ts`,
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ES2022, sourceMap: true },
    })
    writeFileSync(join(root, 'lib', `${name}.ts`), text)
    writeFileSync(join(root, 'dist', `${name}.js`), outputText)
    const map = { ...JSON.parse(sourceMapText ?? '{}'), sources: [`../lib/${name}.ts`] }
    writeFileSync(join(root, 'dist', `${name}.js.map`), JSON.stringify(map))
  }
  writeFileSync(join(root, 'package.json'), '{"type":"module"}')
  const raw = join(root, 'processes')
  const collector = new Collector(raw, root)
  const url = (file: string): string => pathToFileURL(join(root, file)).href
  const child = async (text: string): Promise<void> => {
    const code = `import * as a from ${JSON.stringify(url('dist/a.js'))}\n${text}`
    const ended = await runModule(code, [], { env: { NODE_V8_COVERAGE: raw } })
    t.equal(ended.stderr, '')
  }
  const finish = (): number => collector.finish(join(root, 'sum/coverage-lib.json'))
  return { root, raw, collector, url, child, finish }
}

t.test('the sum of what processes ran', privileged, async (t) => {
  const { root, raw, collector, child, finish } = packaged(t)
  t.equal(statSync(raw).mode & 0o1777, 0o1777, 'processes of any user write there')
  await child('a.one({ a: 0 })')
  t.equal(readdirSync(raw).length, 1)
  collector.poll()
  t.same(readdirSync(raw), [], 'what was added is removed')
  await child('a.two()')
  t.equal(finish(), 2)
  t.notOk(existsSync(raw))
  const [a, b] = (await files(join(root, 'sum'), root)).sort((x, y) => (x.path < y.path ? -1 : 1))
  t.match(a, { path: 'lib/a.ts', notRun: [], functions: { covered: 2, total: 2 } })
  t.match(a?.branches, { covered: 1, total: 2 }, 'the return of 1 is a branch that was not run')
  t.match(b, { path: 'lib/b.ts', lines: { covered: 0, total: 1 } }, 'nobody loaded it')
})

t.test('what was not run', privileged, async (t) => {
  const { root, child, finish } = packaged(t)
  await child('')
  t.equal(finish(), 1)
  const [a] = (await files(join(root, 'sum'), root)).filter(({ path }) => path === 'lib/a.ts')
  t.same(a?.notRun, [6, 7, 10], 'no line of a type, of a comment or of a bracket alone')
})

t.test('what a loader made of lib/ counts as what was compiled', privileged, async (t) => {
  const { root, raw, collector, url, child, finish } = packaged(t)
  await child('a.one({ a: 2 }), a.two()')
  const file = join(raw, readdirSync(raw)[0]!)
  const report: Report = JSON.parse(readFileSync(file, 'utf8'))
  writeFileSync(file, '{"result": [')
  const [script] = report.result.filter((each) => each.url === url('dist/a.js'))
  const code = readFileSync(join(root, 'dist/a.js'), 'utf8')
  const longer = JSON.parse(
    JSON.stringify(script).replaceAll(`"endOffset":${code.length}`, '"endOffset":99999'),
  )
  const loaded = (lengths: number[]): Report => ({
    result: [{ ...longer, url: url('lib/a.ts') }],
    'source-map-cache': { [url('lib/a.ts')]: { lineLengths: lengths } },
  })
  const lengths = code.split('\n').map((line) => line.length)
  t.throws(
    () => collector.add(loaded([7, ...lengths])),
    /lib\/a\.ts is not what .*dist\/a\.js was compiled from/,
  )
  collector.add(loaded([...lengths.slice(0, -1), 4000]))
  collector.poll()
  t.same(readdirSync(raw).length, 1, 'what is not whole is left alone')
  finish()
  const [a] = (await files(join(root, 'sum'), root)).filter(({ path }) => path === 'lib/a.ts')
  t.match(a, { functions: { covered: 2, total: 2 }, notRun: [7] })
})

t.test('many processes', privileged, async (t) => {
  const { root, raw, collector, child, finish } = packaged(t)
  await child('a.two()')
  const file = join(raw, readdirSync(raw)[0]!)
  const report: Report = JSON.parse(readFileSync(file, 'utf8'))
  for (let n = 0; n < 59; n++) collector.add(report)
  t.equal(finish(), 60)
  const sum: Report = JSON.parse(readFileSync(join(root, 'sum/coverage-lib.json'), 'utf8'))
  const functions = sum.result.find(({ url }) => url.endsWith('/a.js'))?.functions
  t.equal(functions?.find(({ functionName }) => functionName === 'two')?.ranges[0]?.count, 60)
})

t.test('how it is printed', async (t) => {
  t.equal(ranges([1, 2, 3, 7, 9, 10]), '1-3,7,9-10')
  t.equal(ranges([]), '')
  t.same(
    total([
      { covered: 1, total: 3 },
      { covered: 1, total: 0 },
    ]),
    { covered: 2, total: 3, percent: 66.66 },
  )
  t.equal(total([]).percent, 0, 'nothing was covered of nothing')
})
