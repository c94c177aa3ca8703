/**
 * Every recipe of `tracing/run` for real, over a program that mounts: it is attached, sees what has to be
 * there, ends with the command, has its exit status, and leaves a file of the folded format and nothing else.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { dist, root, run } from '../support/child.js'
import { all, privileged, programs } from '../support/needs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { parseFolded } from './folded.js'

/** of the program that is traced: nobody else ends with it */
const STATUS = 7
const bpftrace = all(privileged, programs('bpftrace', 'unshare'))
const probes = all(bpftrace, programs('dtrace'))
const perf = all(privileged, programs('perf', 'unshare'))

/** A program that mounts and unmounts eight containers at a time, forty times. */
const load = (area: Scratch) => {
  const containers = Array.from({ length: 8 }, (_, i) => area.container(String(i)))
  return `
    import { LayerStack, Mounter } from '${dist('index.js')}'
    import { readlinkSync } from 'node:fs'
    const containers = ${JSON.stringify(containers)}
    const stack = await LayerStack.open({ lowerdir: ${JSON.stringify(area.layers(3))} })
    for (let i = 0; i < 40; i++) {
      const all = await Promise.all(containers.map((each) => stack.mount(each)))
      await Promise.all(all.map((rootfs) => rootfs.unmount()))
    }
    await stack.close()
    await Mounter.default.close()
    console.error('load ' + readlinkSync('/proc/self/ns/mnt'))
    process.exitCode = ${STATUS}
  `
}

const trace = async (t: Test, name: string) => {
  const area = scratch(t)
  const file = area.path('out.folded')
  const TMPDIR = area.mkdir('tmp')
  const node = [process.execPath, '--input-type=module', '--eval', load(area)]
  const { status, stdout, stderr } = await run(join(root, 'tracing/run'), [name, '-o', file, ...node], {
    env: { TMPDIR },
  })
  t.match(stderr, `tracing/run: ${name} is attached`)
  t.equal(status, STATUS, "the command's exit status")
  t.match(stderr, `load ${readlinkSync('/proc/self/ns/mnt')}`, 'the command stays in its mount namespace')
  t.same(readdirSync(TMPDIR), [], 'no files are left')
  const stacks = parseFolded(readFileSync(file, 'utf8'))
  const total = [...stacks.values()].reduce((sum, weight) => sum + weight, 0)
  t.match(stdout, new RegExp(`^${file}: \\d+ stacks, \\d+ (ns|us|samples); the heaviest:$`, 'm'))
  t.ok(total > 0)
  return { stdout, stacks, names: [...stacks.keys()] }
}

t.test('overlayfd-steps', probes, async (t) => {
  const { stdout, names, stacks } = await trace(t, 'overlayfd-steps')
  for (const stack of ['direct;fsopen', 'direct;move_mount', 'unmount;umount2'])
    t.ok(names.includes(stack), stack)
  t.match(stdout, /^@nanoseconds\[umount2\]: $/m)
  t.match(stdout, /^@slowest_ns\[\w.*, \d+, \w+\]: \d+$/m)
  t.notOk(stdout.includes('@title'), 'what is kept between probes is not shown')
  const umount = stacks.get('unmount;umount2') ?? 0
  t.ok(umount > 320 * 1000, 'an umount waits for a grace period: more than a microsecond each')
})

t.test('overlayfd-mounts', probes, async (t) => {
  const { stdout, names } = await trace(t, 'overlayfd-mounts')
  t.ok(names.includes('direct;done') && names.includes('unmount;done'))
  t.match(stdout, '@ended[direct, done]: 320', 'none is missed')
  t.match(stdout, /^@ended\[unmount, done\]: \d+$/m)
  t.match(stdout, /^@microseconds\[direct\]: $/m)
})

t.test('lock-contention', bpftrace, async (t) => {
  const { stdout, names } = await trace(t, 'lock-contention')
  t.match(stdout, /^@microseconds\[(spin lock|mutex|read side|write side|other)\]: $/m)
  t.ok(names.some((stack) => /_slowpath|_lock/.test(stack)))
})

t.test('grace-periods', bpftrace, async (t) => {
  const { names } = await trace(t, 'grace-periods')
  t.ok(
    names.every((stack) => stack.includes(';synchronize_rcu')),
    'nothing else is in the file',
  )
  t.ok(
    names.some((stack) => stack.includes('umount')),
    'an umount waits',
  )
})

t.test('perf-cpu', perf, async (t) => {
  const { names } = await trace(t, 'perf-cpu')
  t.ok(names.some((stack) => stack.startsWith('node;')))
  t.notOk(
    names.some((stack) => stack.startsWith('swapper')),
    'idle CPUs are left out',
  )
})

t.test('perf-off-cpu', perf, async (t) => {
  const { names } = await trace(t, 'perf-off-cpu')
  t.ok(names.some((stack) => /;uninterruptible;.*synchronize_rcu/.test(stack)))
  t.ok(
    names.every((stack) => /^[^;]+;(runnable|interruptible|uninterruptible|idle|[A-Za-z])(;|$)/.test(stack)),
  )
})

t.test('perf-locks', perf, async (t) => {
  const { stdout } = await trace(t, 'perf-locks')
  t.match(stdout, /contended +total wait +max wait/)
})

t.test('one process, until it has ended', bpftrace, async (t) => {
  const file = scratch(t).path('out.folded')
  const script = `
    sleep 5 & pid=$!
    "$1" grace-periods -p $pid -o "$2" || exit
    [ ! -e /proc/$pid ]
  `
  const args = ['-c', script, 'bash', join(root, 'tracing/run'), file]
  const { status, stdout } = await run('bash', args)
  t.equal(status, 0)
  t.match(stdout, `${file}: 0 stacks, 0 us`, 'a sleeping process waits for no grace period')
})
