/** The benchmark's command line: what is wrong in it is told in one line, with what would be right. */
import t from 'tap'
import { bench } from './module.js'

interface Options {
  readonly readOptions: (args: string[]) => Record<string, unknown>
  readonly commandOf: (options: object) => string
  readonly isKept: (options: object) => boolean
  readonly pick: <T extends { name: string }>(all: T[], only: string[]) => T[]
}
const { readOptions, commandOf, isKept, pick } = await bench<Options>('options.mjs')

t.test('what is left out', async (t) => {
  t.match(readOptions([]), { what: 'trials', only: [], list: false, quick: false, rounds: undefined })
  t.equal(readOptions([])['output'], undefined)
})

t.test('what is given', async (t) => {
  const given = ['figures', '--quick', '--only', 'a', '--only', 'b', '--rounds', '3', '--output', 'there']
  const read = { what: 'figures', quick: true, only: ['a', 'b'], rounds: 3, output: 'there' }
  t.match(readOptions(given), read)
  const command = 'npm run bench -- figures --only a --only b --rounds 3 --quick'
  t.equal(commandOf(readOptions(given)), command, 'without the place of the results')
  t.equal(commandOf(readOptions([])), 'npm run bench -- trials')
})

t.test('what is wrong', async (t) => {
  const wrong: [string[], RegExp][] = [
    [['figure'], /what must be trials, figures, rungs, contention, lock; not 'figure'/],
    [['toString'], /not 'toString'/],
    [['lock', 'figures'], /one part at a time: 'lock', or 'figures'/],
    [['--rounds', '0'], /--rounds must be a whole number from 1 to 99, not '0'/],
    [['--rounds', '1e1'], /not '1e1'/],
    [['--output', ''], /--output must name a directory/],
    [['--fast'], /'--fast'[\s\S]*Usage: npm run bench/],
    [['--only'], /--only[\s\S]*argument missing[\s\S]*Usage/],
  ]
  for (const [args, message] of wrong) t.throws(() => readOptions(args), { message }, args.join(' '))
})

t.test('names that are picked', async (t) => {
  const all = [{ name: 'a' }, { name: 'b' }]
  t.same(pick(all, []), all)
  t.same(pick(all, ['b']), [{ name: 'b' }])
  t.throws(() => pick(all, ['c']), { message: "--only must be one of a, b; not 'c'" })
})

t.test('which results are kept', async (t) => {
  const kept = (...args: string[]): boolean => isKept(readOptions(args))
  t.ok(kept('figures'), 'of a whole run')
  t.notOk(kept('figures', '--quick'))
  t.notOk(kept('figures', '--only', 'a'))
  t.ok(kept('figures', '--only', 'a', '--quick', '--output', 'there'), 'where one says so')
})
