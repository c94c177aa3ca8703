/** What `tracing/run` says of itself and of what is missing, each in one line. Nothing is traced here. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { root, run } from '../support/child.js'
import { all, privileged, programs } from '../support/needs.js'

const runner = join(root, 'tracing/run')
const scripts = readdirSync(join(root, 'tracing')).filter((name) => name.endsWith('.bt'))
const asRoot = all(privileged, programs('unshare'))

t.test('its help names every script and every option', async (t) => {
  const { status, stdout, stderr } = await run(runner, ['--help'])
  t.same([status, stderr], [0, ''])
  for (const script of scripts) t.match(stdout, new RegExp(`^ {2}${script.replace('.bt', '')} `, 'm'))
  for (const option of ['-p PID', '-s SECONDS', '-o FILE', 'COMMAND']) t.match(stdout, option)
  t.equal((await run(runner, ['perf-cpu', '-h'])).stdout, stdout)
})

t.test('without a name, the help is an error', async (t) => {
  const { status, stdout, stderr } = await run(runner, [])
  t.same([status, stdout], [1, ''])
  t.match(stderr, /^Usage: /)
})

const refuses = async (t: Test, args: string[], message: RegExp, program = runner, before: string[] = []) => {
  const { status, stdout, stderr } = await run(program, [...before, ...args])
  t.same([status, stdout], [1, ''], args.join(' '))
  t.match(stderr, message)
  t.equal(stderr.trim().split('\n').length, 1, 'in one line')
}

t.test('wrong arguments', async (t) => {
  const cases: [args: string[], message: RegExp][] = [
    [['perf-gpu'], /^tracing\/run: no recipe is called 'perf-gpu'; --help lists them$/m],
    [['../run'], /no recipe is called '\.\.\/run'/],
    [['perf-cpu', '-x'], /no option -x/],
    [['perf-cpu', '-p'], /-p takes a value/],
    [['perf-cpu', '-p', 'node'], /-p takes a whole number above 0; got: node$/m],
    [['perf-cpu', '-s', '0'], /-s takes a whole number above 0; got: 0$/m],
    [['perf-cpu', '-s', '1', 'true'], /takes -s or a command, which ends the tracing itself; got both/],
  ]
  for (const [args, message] of cases) await refuses(t, args, message)
})

t.test('a plain user', all(privileged, programs('setpriv')), async (t) => {
  const drop = ['--reuid=65534', '--regid=65534', '--clear-groups', runner]
  await refuses(
    t,
    ['perf-cpu', 'true'],
    /^tracing\/run: has to be root, to trace the kernel$/m,
    'setpriv',
    drop,
  )
})

t.test('what is not there', asRoot, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'overlayfd-test-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  mkdirSync(join(dir, 'bin'))
  const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`
  for (const name of ['bash', 'readlink', 'dirname', 'id', 'node', 'unshare']) {
    const { stdout } = await run('bash', ['-c', `command -v ${name}`], { env: { PATH } })
    symlinkSync(stdout.trim(), join(dir, 'bin', name))
  }
  const bare = [`PATH=${join(dir, 'bin')}`, runner]
  await refuses(
    t,
    ['perf-locks', 'true'],
    /perf is not installed \(Debian: apt-get install linux-perf\)/,
    'env',
    bare,
  )
  await refuses(t, ['lock-contention', 'true'], /bpftrace is not installed/, 'env', bare)
  if (programs('perf').skip === undefined) {
    await refuses(t, ['perf-cpu', '-p', '4194304'], /there is no process 4194304/)
    await refuses(t, ['perf-cpu', '-o', join(dir, 'no/file'), 'true'], /cannot write .*\/no\/file$/m)
  }
})
