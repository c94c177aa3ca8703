/**
 * The figure of the rungs: the tables of what was measured, that an excess is seen where there is one, and a short real
 * run of the command.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { root, run } from '../support/child.js'
import { all, privileged, programs } from '../support/needs.js'
import { bench } from './module.js'

interface Section {
  readonly table: { readonly rows: readonly (readonly (string | number)[])[] }
}
interface Cell {
  readonly id: string
  readonly subject: string
  readonly task: { readonly layers: number; readonly mounts?: number }
}
type Measured = Map<string, readonly object[]>
interface Tables {
  countsTable(counts: readonly object[]): Section
  timesTable(cells: readonly Cell[], measured: Measured, floor: string): Section
  excessTable(cells: readonly Cell[], measured: Measured): Section
}
const { countsTable, timesTable, excessTable } = await bench<Tables>('rungs/tables.mjs')

t.test('tables: what is not equal stands out, and what is missing is no number', async (t) => {
  const counts = { calls: 3, writers: 2, grace: 1 }
  const counted = { rung: 'direct', layers: 1, plan: counts, strace: { ...counts, grace: 0 } }
  t.same(countsTable([{ ...counted, isEqual: false }]).table.rows, [
    ['direct', 1, '3 / 2 / 1', '3 / 2 / 0', '**not equal**'],
  ])
  const cell = (subject: string, layers: number): Cell => ({
    id: `${subject} ${layers}`,
    subject,
    task: { layers, mounts: 7 },
  })
  const cells = [
    cell('overlayfd/direct/sync', 1),
    cell('overlayfd/direct/sync', 2),
    cell('floor/b', 1),
    cell('floor/b', 2),
  ]
  const p50 = (...values: number[]) => values.map((value) => ({ compose: { p50: value } }))
  const measured: Measured = new Map([
    ['overlayfd/direct/sync 1', p50(30)],
    ['overlayfd/direct/sync 2', p50(20)],
    ['floor/b 1', p50(10)],
    ['floor/b 2', p50(40)],
  ])
  t.same(timesTable(cells, measured, 'floor/b').table.rows, [
    ['direct', 1, '30', '10', '3 ×'],
    ['direct', 2, '20', '40', '0.5 ×'],
  ])
  const seen = { mounts: 7, samples: 99, targets: 2, excess: 1 }
  t.same(excessTable(cells.slice(0, 2), new Map([['overlayfd/direct/sync 1', [seen]]])).table.rows, [
    ['overlayfd/direct/sync 1', 7, 99, 2, 1],
    ['overlayfd/direct/sync 2', 7, '–', '–', '–'],
  ])
})

const needs = all(privileged, programs('cc', 'strace', 'unshare', 'mount', 'umount'))

t.test('a quick run of two rungs', needs, async (t) => {
  const output = mkdtempSync(join(tmpdir(), 'overlayfd-bench-test-'))
  t.teardown(() => rmSync(output, { recursive: true }))
  const args = ['rungs', '--quick', '--only', 'staged', '--only', 'classic', '--output', output]
  const { status, stdout, stderr } = await run(process.execPath, [join(root, 'bench/main.mjs'), ...args], {
    timeout: 120_000,
  })
  t.equal(status, 0, stderr)
  t.match(stdout, /^\| staged \| 50 \| 86 \/ 4 \/ 1 \| 86 \/ 4 \/ 1 \| equal \|$/m)
  t.match(stdout, /^\| classic \| 50 \| [\d.,]+ \| [\d.,]+ \| [\d.]+ × \|$/m)
  t.match(stdout, /^\| staged, a mapping each \| 100 \| \d+ \| [1-4] \| 0 \|$/m)
  t.match(
    stdout,
    /^\| common-parent \(sys\) \| 100 \| \d+ \| 1 \| [1-9]\d* \|$/m,
    'where there is one, it is seen',
  )
  t.same(readdirSync(output), ['rungs.json', 'rungs.md'])
  t.notMatch(
    readFileSync(join(output, 'rungs.json'), 'utf8'),
    /overlayfd-bench-|"\//,
    'no path of this machine',
  )
})
