/**
 * How long properties are tried: `OVERLAYFD_RUNS=20` tries each twenty times as often, `OVERLAYFD_SEED` begins where
 * a run failed, and `OVERLAYFD_PATH` goes to the case of that seed at once. A failure prints fast-check's seed and path.
 */
import type fc from 'fast-check'

const number = (name: string): number | undefined => {
  const text = process.env[name]
  return text === undefined || text === '' ? undefined : Number(text)
}

export const settings = <T>(runs: number): fc.Parameters<T> => {
  const seed = number('OVERLAYFD_SEED')
  const path = process.env['OVERLAYFD_PATH']
  return {
    numRuns: Math.ceil(runs * (number('OVERLAYFD_RUNS') ?? 1)),
    ...(seed !== undefined && { seed }),
    ...(path && { path }),
    // each shrink mounts again
    endOnFailure: true,
  }
}
