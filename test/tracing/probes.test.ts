/**
 * The probes are in the addon as it was built, with their arguments and semaphores, and stay in it when it is
 * stripped as for a release. systemtap-sdt-dev, which has <sys/sdt.h>, brings dtrace along: that is how its
 * presence is told. If this fails after it was installed: `npm run build`.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/child.js'
import { programs } from '../support/needs.js'

const addon = join(root, 'build/Release/overlayfd.node')

/** name → arguments without their registers (`8` unsigned, `-8` signed) and whether there is a semaphore */
const probesOf = (file: string) => {
  const notes = execFileSync('readelf', ['--notes', '--wide', file], { encoding: 'utf8' })
  const found = notes.matchAll(
    /Provider: (\S+)\s+Name: (\S+)\s+Location: \S+ Base: \S+ Semaphore: (\S+)\s+Arguments: (.*)/g,
  )
  return [...found].map(([, provider, name, semaphore, args = '']) => ({
    name: `${provider}:${name}`,
    hasSemaphore: Number(semaphore) !== 0,
    args: args
      .trim()
      .split(' ')
      .map((each) => Number(each.split('@')[0])),
  }))
}

const expected = [
  { name: 'overlayfd:program__done', hasSemaphore: true, args: [8, -4, -8, 8] },
  { name: 'overlayfd:program__start', hasSemaphore: true, args: [8, 8, 4] },
  { name: 'overlayfd:step', hasSemaphore: true, args: [8, 4, 8, -8, 8] },
]
/** A compiler may inline one probe to several places. */
const sorted = (probes: ReturnType<typeof probesOf>) =>
  [...new Map(probes.map((probe) => [probe.name, probe])).values()].sort((a, b) => (a.name < b.name ? -1 : 1))

t.test('probes of the addon', programs('dtrace', 'readelf'), async (t) => {
  t.same(sorted(probesOf(addon)), expected)
})

t.test('probes of the stripped addon', programs('dtrace', 'readelf', 'strip'), async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'overlayfd-test-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  execFileSync('strip', ['--strip-all', '-o', join(dir, 'stripped.node'), addon])
  t.same(sorted(probesOf(join(dir, 'stripped.node'))), expected)
})
