/**
 * A thousand mounts and unmounts of every kind leave nothing: no fd, no mount, no thread, no memory. The same
 * program does ten thousand (test/lifecycle/ten-thousand.mjs). That it notices a leak is seen too.
 */
import { join } from 'node:path'
import t from 'tap'
import { root, run } from './support/child.js'
import { privileged } from './support/needs.js'

const program = join(root, 'test/lifecycle/ten-thousand.mjs')

t.test('a thousand mounts', privileged, async (t) => {
  const { status, stdout, stderr } = await run(process.execPath, [program, '1000'])
  t.equal(status, 0, stdout + stderr)
  t.match(stdout, /^1000 mounts and unmounts in/)
  for (const name of ['fds', 'mounts', 'threads']) {
    const [, before, after] = new RegExp(`^${name} +(\\d+) → +(\\d+)$`, 'm').exec(stdout) ?? []
    t.ok(Number(before) > 0, name)
    t.equal(after, before, `as many ${name} as before`)
  }
})

t.test('a leak is noticed', async (t) => {
  const script = `
    import { grown, measure } from ${JSON.stringify(program)}
    const before = measure()
    const more = (changes) => ({ ...before, ...changes })
    console.log(JSON.stringify([
      grown(before, before, 10000),
      grown(before, more({ fds: before.fds + 1 }), 10000),
      grown(before, more({ mounts: before.mounts + 1, threads: before.threads + 1 }), 10000),
      grown(before, more({ resident: before.resident + 1024, heap: before.heap + 1024 }), 10000),
      grown(before, more({ native: before.native + 10000, heap: before.heap + 10000, unreclaimable: before.unreclaimable + 20000 }), 10000),
    ]))`
  const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '--eval', script])
  t.same(
    JSON.parse(stdout),
    [[], ['fds'], ['mounts', 'threads'], [], ['native', 'heap', 'unreclaimable']],
    stderr,
  )
})
