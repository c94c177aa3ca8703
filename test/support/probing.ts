/** The probes of lib/host over an addon that a test made up: `mockImport` replaces what a module imports itself, not what that imports. */
import type { Test } from 'tap'

const probing = '../../lib/host/probing.js'

/** What to mock besides: the part that the probes share, over the same. */
export const withProbing = async (
  t: Test,
  mocks: Record<string, unknown>,
): Promise<Record<string, unknown>> => ({
  ...mocks,
  [probing]: await t.mockImport<object>(probing, mocks),
})
