/**
 * The demo is run as a user would run it, with small numbers, and its claims are checked: those it makes in
 * words, those it gives with --json, and the one that nothing is left behind, which is looked at from here.
 *
 * Each place it can run in is made: root, a user namespace with many ids, one with a single id, and one that
 * permits nothing. As a plain user, the demo has to find out by itself which of these it is in.
 */
import { spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Ended, environment, root, run } from './support/child.js'
import { mounts } from './support/mountinfo.js'
import { all, isPrivileged, privileged, programs } from './support/needs.js'
import { scratch } from './support/scratch.js'

const demo = join(root, 'demo/main.mjs')
/** The demo is to choose by itself, whatever the rest of the suite is run with. */
const anyRung = { OVERLAYFD_RUNG: undefined }

const util = programs('unshare', 'nsenter', 'setpriv')

/** Before a command: makes a plain user of root. It keeps root's files, so that it can read this package. */
const asPlainUser = ['unshare', '--user', '--map-user=1000', '--map-group=1000']

/** The same, of one that may make no user namespace. */
const withNothing = [
  ...['unshare', '--user', '--map-root-user', 'sh', '-c'],
  'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --bounding-set=-all "$@"',
  'sh',
]

/** A module that runs its arguments in a user namespace where root is root, and 5000 ids from 300000 on are there. */
const inManyIds = `
  import { spawnSync } from 'node:child_process'
  import { openUserNamespace } from ${JSON.stringify(new URL('../demo/userns.mjs', import.meta.url))}
  const single = { inside: 0, outside: 0, length: 1 }
  const fd = await openUserNamespace([single, { inside: 1, outside: 300000, length: 5000 }])
  const args = ['--user=/proc/self/fd/3', '--setuid', '0', '--setgid', '0', ...process.argv.slice(1)]
  process.exitCode = spawnSync('nsenter', args, { stdio: ['inherit', 'inherit', 'inherit', fd] }).status ?? 1
`

interface Found {
  mapped: boolean
  userns: boolean
  image: { layers: number; whiteouts: number; replaced: number; opaque: number; bytes: number }
  containers: number
  run?: { runner: string; entries: number; owners: { name: string; inside: number; onDisk: number }[] }
  rung: string
  cost: Counts
  perLayer?: Counts
  left: { mounts: string[]; files: string[] }
}
interface Counts {
  namespaceSemWrites: number
  gracePeriods: number
  temporaryMounts: number
  syscalls: number
}

/** Processes that were started with this in their environment. */
const processesWith = (text: string): string[] =>
  readdirSync('/proc').filter((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/environ`).includes(text)
    } catch {
      return false // gone, or another user's
    }
  })

/** Runs the demo with a temporary directory of its own; fails the test where anything is left of it. */
const runDemo = async (t: Test, args: string[], before: string[] = []): Promise<Ended> => {
  const parent = mkdtempSync(join(tmpdir(), 'overlayfd-demo-test-'))
  chmodSync(parent, 0o755)
  const mounted = mounts()
  const [program = '', ...rest] = [...before, process.execPath, demo, ...args]
  const ended = await run(program, rest, { env: { TMPDIR: parent, ...anyRung } })
  t.same(readdirSync(parent), [], 'no temporary directory is left')
  t.same(mounts(), mounted, 'no mount is left')
  t.same(processesWith(parent), [], 'no process is left')
  rmdirSync(parent)
  return ended
}

const demoJson = async (t: Test, args: string[], before?: string[]): Promise<Found> => {
  const ended = await runDemo(t, ['--json', ...args], before)
  t.equal(ended.stderr, '')
  t.equal(ended.status, 0)
  const found = JSON.parse(ended.stdout) as Found
  t.same(found.left, { mounts: [], files: [] })
  return found
}

/** All that the demo claims where every container has ids of its own. */
const checkMapped = (
  t: Test,
  found: Found,
  expected: { layers: number; first: number; each: number },
): void => {
  const { layers, first, each } = expected
  t.equal(found.mapped, true)
  t.equal(found.image.layers, layers)
  t.ok(found.image.whiteouts > 0 && found.image.replaced > 0 && found.image.opaque > 0)
  t.ok(found.image.bytes > 10e6, 'node is in it')
  const owners = found.run?.owners ?? []
  t.same(
    owners,
    owners.map((_, at) => ({ name: `container-${at + 1}`, inside: 0, onDisk: first + at * each })),
  )
  t.match(found.perLayer, {
    temporaryMounts: layers,
    namespaceSemWrites: 3 * layers + 1,
    gracePeriods: layers,
    syscalls: 5 * layers + 1,
  })
  t.equal(found.cost.temporaryMounts, 0)
  t.equal(found.cost.gracePeriods, 0)
  t.ok(found.cost.namespaceSemWrites <= 3)
}

t.test('as root', all(privileged, util), async (t) => {
  const args = ['--containers', '12', '--layers', '50', '--run', '3', '--runner', 'unshare']
  const found = await demoJson(t, args)
  t.match(found, { userns: false, containers: 12, rung: 'detached-tree', run: { runner: 'unshare' } })
  t.equal(found.run?.owners.length, 3)
  checkMapped(t, found, { layers: 50, first: 100_000, each: 65_536 })
})

t.test('as root, under runc', all(privileged, util, programs('runc')), async (t) => {
  const found = await demoJson(t, ['--containers', '3', '--layers', '12', '--run', '3', '--runner', 'runc'])
  t.equal(found.run?.runner, 'runc')
  checkMapped(t, found, { layers: 12, first: 100_000, each: 65_536 })
})

t.test('as root, where runc is installed and does not work', all(privileged, util), async (t) => {
  const path = scratch(t).mkdir('bin')
  const runc = '#!/bin/sh\n[ "$1" = --version ] || { echo no cgroups here >&2; exit 1; }\n'
  writeFileSync(join(path, 'runc'), runc, { mode: 0o755 })
  const before = ['env', `PATH=${path}:${process.env['PATH']}`]
  const args = ['--containers', '2', '--layers', '3', '--run', '2']
  const { stdout, status } = await runDemo(t, args, before)
  t.equal(status, 0)
  t.match(
    stdout,
    /^run +runc is installed but fails, so unshare is used: .*no cgroups here\n +node in 2 containers/m,
  )

  const forced = await runDemo(t, [...args, '--runner', 'runc'], before)
  t.equal(forced.stderr, 'demo: runc failed (exit code 1): no cgroups here\n')
  t.equal(forced.status, 1)
})

t.test('as root, in a directory that is given', all(privileged, util), async (t) => {
  const { dir } = scratch(t)
  const args = ['--containers', '2', '--layers', '10', '--run', '1', '--runner', 'unshare', '--dir', dir]
  checkMapped(t, await demoJson(t, args), { layers: 10, first: 100_000, each: 65_536 })
  t.same(readdirSync(dir), [])
})

t.test('the report', all(privileged, util), async (t) => {
  const { stdout, status } = await runDemo(t, ['--containers', '4', '--layers', '15', '--run', '2'])
  t.equal(status, 0)
  const headings = stdout.match(/^[a-z]+( [a-z]+)?(?= {2,})/gm)
  t.same(headings, ['overlayfd', 'image', 'containers', 'run', 'plan', 'comparison', 'down', 'left behind'])
  t.match(stdout, /^plan +detached-tree: \d+ system calls, /m)
  t.match(stdout, /fsconfig\(.*"lowerdir\+"/, 'the calls')
  t.match(stdout, /container-2 {2}0 → 165536/)
  t.match(stdout, /temporary mounts +15 +0$/m)
  t.match(stdout, /left behind {2}0 mounts, 0 file descriptors\n.*\n$/)
  t.notMatch(stdout, /undefined|NaN|\[object/)
  t.notMatch(stdout, / $/m, 'no spaces at the end of lines')
  t.ok(Math.max(...stdout.split('\n').map((line) => line.length)) <= 120)
})

t.test('as a plain user with a single id', all(privileged, util), async (t) => {
  const { stdout, stderr, status } = await runDemo(
    t,
    ['--containers', '3', '--layers', '12', '--run', '2'],
    asPlainUser,
  )
  t.equal(stderr, '')
  t.equal(status, 0)
  t.match(stdout, /left out +a mapping for each container/)
  t.match(stdout, /container-2 {2}0 → 1000/)
})

t.test('in a user namespace with many ids', all(privileged, util), async (t) => {
  const args = ['--containers', '5', '--layers', '12', '--run', '2', '--runner', 'unshare']
  const found = await demoJson(t, args, [process.execPath, '--input-type=module', '--eval', inManyIds])
  t.equal(found.userns, true)
  checkMapped(t, found, { layers: 12, first: 300_000, each: 1000 })
})

t.test('where nothing is permitted', all(privileged, util), async (t) => {
  const { stdout, stderr, status } = await runDemo(t, [], withNothing)
  t.equal(stdout, '')
  t.match(stderr, /^demo: user namespaces are not permitted here \(.+\), and this root may not mount.*\n$/)
  t.equal(status, 1)
})

// for root, the tests above make such users
if (!isPrivileged)
  t.test('as the user that runs the tests', util, async (t) => {
    const { stdout, stderr, status } = await runDemo(t, ['--containers', '3', '--layers', '12', '--run', '2'])
    if (/^demo: user namespaces are not permitted/.test(stderr)) return t.equal(status, 1)
    t.equal(stderr, '')
    t.equal(status, 0)
    t.match(stdout, /in a user namespace/)
    t.match(stdout, /^left out /m)
    t.match(stdout, /left behind {2}0 mounts, 0 file descriptors\n/)
  })

t.test('ended in the middle', all(privileged, util), async (t) => {
  const parent = mkdtempSync(join(tmpdir(), 'overlayfd-demo-test-'))
  chmodSync(parent, 0o755)
  const mounted = mounts()
  const child = spawn(process.execPath, [demo], {
    env: environment({ TMPDIR: parent, NODE_OPTIONS: '', ...anyRung }),
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  child.stdout.once('data', () => child.kill('SIGTERM'))
  const status = await new Promise((resolve) => child.once('close', resolve))
  t.equal(status, 143)
  t.same(readdirSync(parent), [])
  t.same(mounts(), mounted)
  t.same(processesWith(parent), [])
  rmdirSync(parent)
})

t.test('wrong arguments', async (t) => {
  const cases: [args: string[], message: RegExp][] = [
    [['--layers', '1'], /^demo: --layers must be a whole number from 2 to 500, not '1'\n$/],
    [['--layers', '501'], /from 2 to 500, not '501'/],
    [['--containers', 'x'], /^demo: --containers must be a whole number from 1 to 10000, not 'x'\n$/],
    [['--containers', '2', '--run', '3'], /^demo: --run must be a whole number from 0 to 2, not '3'\n$/],
    [['--runner', 'docker'], /^demo: --runner must be runc or unshare, not 'docker'\n$/],
    [['--layer', '5'], /^demo: Unknown option '--layer'.*\n\nUsage: /],
  ]
  for (const [args, message] of cases) {
    const { stdout, stderr, status } = await run(process.execPath, [demo, ...args])
    t.equal(stdout, '')
    t.match(stderr, message)
    t.equal(status, 1)
  }
  const { stdout, status } = await run(process.execPath, [demo, '--help'])
  t.match(stdout, /^Usage: npm run demo -- \[options\]\n/)
  t.equal(status, 0)
})
