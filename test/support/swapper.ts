/** Somebody who exchanges names all the time: test/hostile/swapper.c, built when it is first needed. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Teardown } from './scratch.js'

const source = fileURLToPath(new URL('../hostile/swapper.c', import.meta.url))

export interface Swapper {
  /** resolves when each pair is back as it was; answers how many exchanges were tried, and how many pairs are stuck */
  stop(): Promise<{ readonly tried: number; readonly stuck: number }>
}

/** Builds the program in a directory of the test's. */
export const buildSwapper = (dir: string): string => {
  const program = join(dir, 'swapper')
  execFileSync('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', program, source])
  return program
}

/**
 * Exchanges the two names of each pair, one pair after the other, until it is stopped.
 *
 * @param pid whose mount namespace it does that in; this process's if left out
 */
export const startSwapper = async (
  t: Teardown,
  program: string,
  pairs: readonly (readonly [string, string])[],
  pid?: number,
): Promise<Swapper> => {
  const names = pairs.flat()
  const child =
    pid === undefined
      ? spawn(program, names, { stdio: ['pipe', 'pipe', 'inherit'] })
      : spawn('nsenter', [`--mount=/proc/${pid}/ns/mnt`, program, ...names], {
          stdio: ['pipe', 'pipe', 'inherit'],
        })
  let said = ''
  child.stdout.on('data', (chunk) => {
    said += chunk
  })
  const ended = once(child, 'close')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  await Promise.race([once(child.stdout, 'data'), ended])
  return {
    async stop() {
      child.stdin.end()
      await ended
      const [, tried, stuck] = /^ready\n(\d+) (\d+)\n$/.exec(said) ?? []
      if (tried === undefined) throw new Error(`the swapper said: ${said}`)
      return { tried: Number(tried), stuck: Number(stuck) }
    },
  }
}
