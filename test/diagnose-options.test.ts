/**
 * Hints about options that this kernel does not give a chance to: what kernels before 6.16 refuse together, SELinux's
 * contexts, and what is not allowed inside a user namespace. As functions of a failed case.
 */
import t from 'tap'
import { type Case, conflictingOptions, needsTrusted, unknownToKernel } from '../lib/diagnose/causes.js'
import { MountError, type OverlayOptions } from '../lib/index.js'
import { parseMount, parseStack } from '../lib/overlay/spec.js'
import * as c from '../lib/program/calls.js'

interface Asked {
  readonly options?: OverlayOptions
  readonly datadir?: string[]
  readonly option?: string
  readonly log?: string[]
}
const caseOf = ({ options, datadir, option = '', log = [] }: Asked): Case => {
  const stack = parseStack({ lowerdir: ['/a', '/b'], ...(datadir && { datadir }) })
  const mount = parseMount({ upperdir: '/u', workdir: '/w', ...(options && { options }) }, stack)
  const error = new MountError({ errno: 22, syscall: 'fsconfig', call: 'fsconfig()', log })
  return { error, step: c.create({ slot: 0, name: 'fs' }), subject: { option }, stack, mount }
}

t.test('before Linux 6.16', async (t) => {
  const cases: [Asked, string | undefined][] = [
    [
      { options: { verity: 'on', metacopy: 'off' } },
      "options.verity: 'on' and options.metacopy: 'off' exclude each other before Linux 6.16",
    ],
    [
      { options: { redirect_dir: 'nofollow', verity: 'require' } },
      "options.verity: 'require' and options.redirect_dir: 'nofollow' exclude each other before Linux 6.16",
    ],
    [
      { options: { userxattr: true, verity: 'on' } },
      "options.userxattr and options.verity: 'on' exclude each other before Linux 6.16",
    ],
    [{ datadir: ['/d'] }, "datadir needs options.metacopy: 'on' before Linux 6.16"],
    [{ datadir: ['/d'], options: { metacopy: 'on' } }, undefined],
    [{ options: { verity: 'on', metacopy: 'on', redirect_dir: 'on' } }, undefined],
    [{ options: { verity: 'off', metacopy: 'off' } }, undefined],
    [{}, undefined],
  ]
  for (const [asked, hint] of cases) t.equal(conflictingOptions(caseOf(asked)), hint, JSON.stringify(asked))
})

t.test('inside a user namespace', async (t) => {
  const refused = 'is not allowed inside a user namespace'
  const cases: [Asked, string | undefined][] = [
    [{ options: { verity: 'require' } }, `options.verity: 'require' ${refused}`],
    [{ options: { redirect_dir: 'off' } }, `options.redirect_dir: 'off' ${refused}`],
    [{ options: { metacopy: 'on' } }, `options.metacopy: 'on' ${refused}`],
    [{ options: { metacopy: 'off', redirect_dir: 'nofollow', verity: 'off' } }, undefined],
    [{ datadir: ['/d'], options: { userxattr: false } }, `datadir ${refused} without options.userxattr`],
    [{ datadir: ['/d'], options: { userxattr: true } }, undefined],
    [{ datadir: ['/d'] }, undefined],
  ]
  for (const [asked, hint] of cases) t.equal(needsTrusted(caseOf(asked)), hint, JSON.stringify(asked))
})

t.test('an option that fsconfig(2) refuses', async (t) => {
  const cases: [Asked, string | undefined][] = [
    [{ option: 'options.uuid' }, "this kernel's overlay does not know options.uuid"],
    [
      { option: 'options.uuid', log: ["overlay: Unknown parameter 'uuid'"] },
      /does not know options\.uuid/.source,
    ],
    [{ option: 'options.uuid', log: ["overlay: Bad value for 'uuid'"] }, undefined],
    [
      { option: 'options.context' },
      'SELinux does not know the context in options.context, or is not enabled',
    ],
    [{ option: 'options.rootcontext' }, 'SELinux does not know the context in options.rootcontext'],
  ]
  for (const [asked, hint] of cases) {
    const said = unknownToKernel(caseOf(asked))
    if (hint === undefined) t.equal(said, undefined)
    else t.match(said, new RegExp(hint), JSON.stringify(asked))
  }
})
