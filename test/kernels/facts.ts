/**
 * What a run finds out about its kernel, on one line that report.mjs reads: docs/kernel-features.md has a table of it.
 * What is written down here was seen to hold by the test that writes it.
 */
import { release } from 'node:os'
import { type Features, features, type RungName } from '../../lib/index.js'

/** Those that the rungs hang on, in the order of the table. */
const names = [
  'openTree',
  'mountSetattr',
  'openat2',
  'fsContext',
  'mountNamespaces',
  'appendLayers',
  'layersByFd',
  'openTreeAttr',
  'detachedLayers',
  'uniqueMountId',
  'overlayOptions',
  'erofsImages',
] as const satisfies readonly (keyof Features)[]

const found = features()

/** The first two numbers of a release. */
export const lineOf = (release: string): string => release.split('.').slice(0, 2).join('.')

export const facts = {
  release: release(),
  architecture: process.arch,
  features: Object.fromEntries(
    names.map((name) => [name, Array.isArray(found[name]) ? true : found[name]]),
  ) as Record<(typeof names)[number], boolean | string>,
  /** by rung: the same rootfs as everywhere, or the features that it misses */
  rungs: {} as Partial<Record<RungName, 'serves' | readonly string[]>>,
  /** by what is wanted: what `auto` took */
  auto: {} as Record<string, RungName>,
}

export const mark = '# kernel facts: '

/** On standard output, where TAP takes it for a comment. */
export const printFacts = (): void => {
  process.stdout.write(`${mark}${JSON.stringify(facts)}\n`)
}
