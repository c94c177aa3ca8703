/**
 * The first use of the library, while there are too few fds: what cannot be found out then is not taken for missing. A
 * process for each number of fds that are free.
 */
import t from 'tap'
import { dist, run } from '../support/child.js'
import { all, privileged, programs } from '../support/needs.js'
import { scratch } from '../support/scratch.js'

interface Seen {
  /** what is known once there are fds again */
  readonly known: { readonly features: object; readonly placement: object; readonly images: boolean }
  readonly source: string
  readonly boot: unknown
  readonly errors: readonly { name: string; code: string; hint?: string; message: string }[]
}

const script = (at: object, free: number) => `
import { closeSync, openSync, readFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { features, Mounter, mountOverlay } from ${JSON.stringify(dist('index.js'))}
const at = ${JSON.stringify(at)}
const taken = []
try { for (;;) taken.push(openSync('/dev/null')) } catch (error) { if (error.code !== 'EMFILE') throw error }
for (const fd of taken.splice(0, ${free})) closeSync(fd)
const errors = []
const attempt = async (run) => {
  try { return await run() } catch (error) { errors.push({ name: error.name, code: error.code, hint: error.hint, message: error.message }) }
}
await attempt(() => features().erofsImages)
const early = await attempt(() => mountOverlay(at))
const json = early && await attempt(() => JSON.stringify(early))
for (const fd of taken) closeSync(fd)
await early?.unmount()
const known = { features: { ...features() }, images: features().erofsImages, placement: Mounter.default.placement }
const rootfs = await mountOverlay(at)
const line = readFileSync('/proc/self/mountinfo', 'utf8').split('\\n').find((each) => each.includes(' ' + at.target + ' '))
const source = line.split(' - ')[1].split(' ')[1].replace(/\\d+/g, 'N')
const { boot } = JSON.parse(json ?? JSON.stringify(rootfs))
await rootfs.unmount()
console.log(JSON.stringify({ known, source, boot, errors }))
`

t.test('nothing is concluded from EMFILE', all(privileged, programs('prlimit')), async (t) => {
  const area = scratch(t)
  const at = { lowerdir: area.layers(2), ...area.container('c') }
  const use = async (free: number): Promise<Seen> => {
    const args = ['--nofile=100:', process.execPath, '--input-type=module', '--eval', script(at, free)]
    const { status, stdout, stderr } = await run('prlimit', args)
    t.equal(status, 0, `${free} free: ${stderr}`)
    return JSON.parse(stdout)
  }
  const whole = await use(40)
  t.same(whole.errors, [], 'with enough of them all is well')
  let failed = 0
  for (let free = 0; free < 9; free++) {
    const { known, source, boot, errors } = await use(free)
    t.same(known, whole.known, `${free} free: what the kernel can do is known afterwards`)
    t.equal(source, whole.source, 'and who has made the mount')
    t.equal(boot, whole.boot, 'and when')
    for (const { name, code, hint, message } of errors) {
      t.match(
        { name, code, hint },
        { name: /^(Mount|Syscall)Error$/, code: 'EMFILE', hint: /^too many open/ },
        message,
      )
    }
    if (errors.length > 0) failed++
  }
  t.ok(failed > 3, `${failed} of 9 had too few`)
})
