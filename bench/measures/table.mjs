/**
 * What the mount table shows besides the targets while mounts come and go: the sampler (rungs/sampler.c) looks at it
 * without a pause, from a CPU of its own if there is one.
 *
 * Below a shared `/`, as a host usually has it, where what is attached anywhere may be copied here.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { BenchError } from '../support/child.mjs'
import { forEachInFlight } from '../support/drive.mjs'

/** @param {import('../rounds.mjs').Task} task @returns {number} how many containers it needs */
export function containersOf({ inFlight }) {
  return inFlight
}

/** @type {import('../support/drive.mjs').Measure} */
export async function measure(session, containers, { mounts = 0, inFlight }, { directory }) {
  execFileSync('mount', ['-n', '--make-rshared', '/'])
  const free = [...containers]
  // what is made once is made before: it is not of a mount
  await session.teardown(await session.compose(free[0]))
  await session.idle()
  const targets = containers.map(({ target }) => target)
  const sampler = spawn(`${directory}/sampler`, [String(process.pid), ...targets], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = once(sampler, 'close')
  let text = ''
  sampler.stdout.setEncoding('utf8').on('data', (chunk) => {
    text += chunk
  })
  await Promise.race([once(sampler.stdout, 'data'), ended])
  const begin = performance.now()
  const each = Array.from({ length: mounts }, (_, n) => n)
  await forEachInFlight(each, inFlight, async () => {
    const container = free.pop()
    await session.teardown(await session.compose(container))
    free.push(container)
  })
  await session.idle()
  const seconds = (performance.now() - begin) / 1e3
  sampler.stdin.end()
  const [code] = await ended
  const [, samples, excess, seen] = /^ready\n(\d+) (\d+) (\d+)\n$/.exec(text) ?? []
  if (code !== 0 || samples === undefined) throw new BenchError(`the sampler failed (exit code ${code})`)
  return { mounts, seconds, samples: Number(samples), excess: Number(excess), targets: Number(seen) }
}
