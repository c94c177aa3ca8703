/**
 * Prints the test files that run under sanitizers, one a line: all of `npm test` but what is named here.
 *
 * On stderr how many were left out, and why each was.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A file, or a directory with a slash at its end, and the reason. */
export const leftOut = {
  'test/bench/': 'measures times and memory; what it calls of the addon test/mount and test/overlay call',
  'test/demo.test.ts': 'as test/bench, through a compiled copy of the package',
  'test/package/': 'builds and installs packages with addons of their own',
  'test/leaks.test.ts': 'measures resident memory, of which the sanitizer keeps 256 MB of what was freed',
  'test/diagnose.test.ts':
    'minutes of processes under strace, each of which waits for the sanitizer; the calls that fail are in test/program',
  'test/coverage/': 'has nothing of the addon',
  'test/memory/': 'has nothing of the addon',
}

/** What runs where OVERLAYFD_MEMORY is not `all`: each call of the addon, every way to fail, threads and workers. */
export const core = ['test/program/', 'test/sys/', 'test/sys.test.ts', 'test/userns.test.ts']

/** Files that were not run to their end under sanitizers yet: whoever has done so takes one out. */
export const notYet = [
  'test/mounter/lifetime.test.ts',
  'test/overlay/check-upper.test.ts',
  'test/overlay/claims.test.ts',
  'test/overlay/cost.test.ts',
  'test/overlay/figures.test.ts',
  'test/overlay/group-stage.test.ts',
  'test/overlay/handover-fd.test.ts',
  'test/overlay/handover.test.ts',
  'test/overlay/idmap-mounts.test.ts',
  'test/overlay/image-errors.test.ts',
  'test/overlay/image-metacopy.test.ts',
  'test/overlay/image-mounts.test.ts',
  'test/overlay/image-spec.test.ts',
  'test/overlay/images.test.ts',
  'test/overlay/inside-entry.test.ts',
  'test/overlay/inside-hostile.test.ts',
  'test/overlay/inside-stuck.test.ts',
  'test/overlay/layer-count.test.ts',
  'test/overlay/layers-join.test.ts',
  'test/overlay/layers.test.ts',
  'test/overlay/mount-many.test.ts',
  'test/overlay/moved-caller.test.ts',
  'test/overlay/option-effects.test.ts',
  'test/overlay/option-table.test.ts',
  'test/overlay/owner.test.ts',
  'test/overlay/peer-groups.test.ts',
  'test/overlay/races.test.ts',
  'test/overlay/reconcile.test.ts',
  'test/overlay/rootfs-lifetime.test.ts',
  'test/overlay/rootfs.test.ts',
  'test/overlay/upper-create.test.ts',
  'test/overlay/uppers.test.ts',
  'test/overlay/userxattr.test.ts',
  'test/rootless.test.ts',
  'test/rootless/subids.test.ts',
  'test/support/counts.test.ts',
  'test/support/lint-native.test.ts',
  'test/support/lock-writes.test.ts',
  'test/support/mountinfo.test.ts',
  'test/support/own-namespace.test.ts',
  'test/support/peers.test.ts',
  'test/support/run.test.ts',
  'test/support/scratch.test.ts',
  'test/support/seccomp.test.ts',
  'test/support/strace.test.ts',
  'test/tracing.test.ts',
  'test/tracing/fold.test.ts',
  'test/tracing/probes.test.ts',
  'test/tracing/run.test.ts',
  'test/tracing/traces.test.ts',
]

/**
 * @param {string} file
 * @param {readonly string[]} places files, and directories with a slash at their end
 */
const isIn = (file, places) =>
  places.some((place) => (place.endsWith('/') ? file.startsWith(place) : file === place))

/**
 * The files that tap takes by itself.
 * @param {string} taprc
 * @param {readonly string[]} names below test/
 */
export const ofTap = (taprc, names) => {
  const excluded = /^exclude:\n((?: {2}- .*\n)+)/m.exec(taprc)?.[1]?.matchAll(/- (test\/.*\/)\*\*$/gm) ?? []
  const places = [...excluded].map((match) => match[1] ?? '')
  return names
    .map((name) => `test/${name}`)
    .filter((name) => name.endsWith('.test.ts') && !isIn(name, places))
    .sort()
}

const main = () => {
  const root = join(import.meta.dirname, '../..')
  const names = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
  const all = ofTap(readFileSync(join(root, '.taprc'), 'utf8'), names)
  const isAll = process.env['OVERLAYFD_MEMORY'] === 'all'
  const possible = all.filter((file) => !isIn(file, [...Object.keys(leftOut), ...notYet]))
  const taken = isAll ? possible : possible.filter((file) => isIn(file, core))
  console.error(`${taken.length} test files under sanitizers, ${all.length - taken.length} left out:`)
  for (const [place, reason] of Object.entries(leftOut)) console.error(`  ${place}: ${reason}`)
  console.error(`  ${notYet.length} files: not tried yet`)
  if (!isAll) console.error(`  ${possible.length - taken.length} files: taken with OVERLAYFD_MEMORY=all`)
  for (const file of taken) console.log(file)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main()
