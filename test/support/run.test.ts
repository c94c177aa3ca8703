/** The runner’s counting, over output that tap printed for files that passed, failed, skipped and crashed. */
import t from 'tap'

interface Result {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly skips: Map<string, number>
  readonly isComplete: boolean
}
interface Runner {
  follow(print: (line: string) => void): { line(text: string): void; end(): Result }
  complaints(result: Result, run: { status: number | null; isRoot: boolean; isCI: boolean }): string[]
}
const runner: Runner = await import(new URL('run.mjs', import.meta.url).href)

const followed = (...lines: string[]) => {
  const printed: string[] = []
  const output = runner.follow((line) => printed.push(line))
  for (const line of lines) output.line(line)
  return { result: output.end(), printed }
}
const good = ['# Subtest: test/a.test.ts', '    ok 1 - one', '    1..1', 'ok 1 - test/a.test.ts # time=3ms']
const skipping = [
  '# Subtest: test/b.test.ts',
  '    ok 1 - mounts # SKIP needs root',
  '    ok 2 - traces # SKIP no program: strace',
  '        ok 3 - deeper # SKIP needs root',
  'ok 2 - test/b.test.ts # time=3ms',
]
const bad = [
  '# Subtest: test/c.test.ts',
  '    ok 1 - fine',
  '    not ok 2 - should be equal',
  '      ---',
  '      diff: 1 is not 2',
  '      ...',
  'not ok 3 - test/c.test.ts # time=3ms',
]
const crashed = [
  '# Subtest: test/d.test.ts',
  '    ok 1 - fine',
  'not ok 4 - test/d.test.ts',
  '  signal: SIGSEGV',
]
const silent = [
  '# Subtest: test/e.test.ts',
  'not ok 5 - test/e.test.ts',
  '  ---',
  '  command: node',
  '  args:',
  '    - --require=x',
  '  exitCode: 1',
  '  ...',
]

t.test('what is printed', async (t) => {
  const { printed } = followed(
    'TAP version 14',
    ...silent,
    ...good,
    ...bad,
    '# { total: 4, pass: 2, fail: 2 }',
  )
  t.same(printed, [
    '# Subtest: test/e.test.ts',
    'not ok 5 - test/e.test.ts',
    '  exitCode: 1',
    'ok 1 - test/a.test.ts # time=3ms',
    '# Subtest: test/c.test.ts',
    '    not ok 2 - should be equal',
    '      ---',
    '      diff: 1 is not 2',
    '      ...',
    'not ok 3 - test/c.test.ts # time=3ms',
    '# { total: 4, pass: 2, fail: 2 }',
  ])
})

t.test('what is counted, and what is wrong with it', async (t) => {
  const root = { status: 0, isRoot: true, isCI: true }
  const user = { status: 0, isRoot: false, isCI: true }
  const laptop = { status: 0, isRoot: true, isCI: false }
  const failing = { status: 1, isRoot: true, isCI: true }
  const onlyProgram = [skipping[0] as string, skipping[2] as string, skipping[4] as string]
  const cases: [name: string, lines: string[], run: typeof root, counts: number[], complaints: string[]][] = [
    ['good', [...good, '# { total: 1, pass: 1 }'], root, [1, 0, 0], []],
    ['skips of a user', [...skipping, '# { total: 3, skip: 3 }'], user, [0, 0, 3], []],
    [
      'skips of root',
      [...skipping, '# { total: 3, skip: 3 }'],
      root,
      [0, 0, 3],
      ['as root nothing may be skipped'],
    ],
    [
      'outside of CI',
      [...skipping, '# { total: 3, skip: 3 }'],
      laptop,
      [0, 0, 3],
      ['as root nothing may be skipped'],
    ],
    [
      'a program, in CI',
      [...onlyProgram, '# { total: 1, skip: 1 }'],
      root,
      [0, 0, 1],
      ['as root nothing may be skipped'],
    ],
    ['a program, outside of it', [...onlyProgram, '# { total: 1, skip: 1 }'], laptop, [0, 0, 1], []],
    [
      'todo',
      [...good, '# { total: 2, pass: 1, todo: 1 }'],
      root,
      [1, 0, 1],
      ['as root nothing may be skipped'],
    ],
    ['bad', [...bad, '# { total: 2, pass: 1, fail: 1 }'], failing, [1, 1, 0], []],
    ['crashed at once', [...silent, '# { total: 1, pass: 0, fail: 1 }'], failing, [0, 1, 0], []],
    ['crashed', [...crashed, '# { total: 1, pass: 1 }'], failing, [1, 1, 0], []],
    [
      'bad status only',
      [...good, '# { total: 1, pass: 1 }'],
      failing,
      [1, 0, 0],
      ['tap ended with status 1'],
    ],
    ['nothing ran', ['1..0', '# { total: 0 }'], root, [0, 0, 0], ['no test was run']],
    ['cut off', good, root, [0, 0, 0], ['tap ended without its totals']],
  ]
  for (const [name, lines, run, counts, complaints] of cases) {
    const { result } = followed(...lines)
    t.same([result.passed, result.failed, result.skipped], counts, `${name}: counts`)
    t.same(runner.complaints(result, run), complaints, `${name}: complaints`)
  }
  t.same(
    followed(...skipping).result.skips,
    new Map([
      ['needs root', 2],
      ['no program: strace', 1],
    ]),
  )
})
