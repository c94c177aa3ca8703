/** Claims without mounts: who sees whom before, while and after the directories are made. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Features } from '../../lib/host/features.js'
import type { Rootfs } from '../../lib/overlay/rootfs.js'
import type { MountSpec } from '../../lib/overlay/spec.js'
import { UpperClaim } from '../../lib/overlay/upper-claim.js'
import { UpperTable } from '../../lib/overlay/uppers.js'

const setup = (t: Test) => {
  const dir = mkdtempSync(join(tmpdir(), 'overlayfd-claims-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  mkdirSync(join(dir, 'real'))
  symlinkSync('real', join(dir, 'link'))
  const host = { uppers: new UpperTable(), features: { uniqueMountId: true } as Features }
  const claim = (name: string, create = true) =>
    new UpperClaim(host, {
      upperdir: Buffer.from(join(dir, name, 'upper')),
      workdir: Buffer.from(join(dir, name, 'work')),
      create,
    } as MountSpec)
  return { dir, claim }
}
const busy = { name: 'MountError', code: 'EBUSY', hint: /^this upperdir is in use by / }

t.test('a directory that is still to be made, by two spellings of the one above', async (t) => {
  const { dir, claim } = setup(t)
  const one = claim('real')
  t.throws(() => claim('link'), busy)
  t.throws(() => claim('real/../link'), busy)
  mkdirSync(join(dir, 'real/upper'))
  t.throws(() => claim('link'), busy, 'made, and the first does not know it yet')
  one.drop()
  claim('link').drop()
  claim('real/new/deep')
  t.throws(() => claim('link/new/deep'), busy, 'more than one is to be made')
  t.doesNotThrow(() => claim('link/new/other'))
})

t.test('what no name showed is found when the directory is there', async (t) => {
  const { dir, claim } = setup(t)
  const one = claim('real/new')
  mkdirSync(join(dir, 'real/new/upper'), { recursive: true })
  const two = claim('link/new')
  one.mounted(undefined)
  let unmounted = 0
  t.throws(() => one.become({ unmountSync: () => unmounted++ } as unknown as Rootfs), busy)
  t.equal(unmounted, 1, 'it was taken down again')
  one.drop()
  t.throws(() => claim('real/new'), busy, 'the other one keeps it')
  two.drop()
  claim('real/new').drop()
})
