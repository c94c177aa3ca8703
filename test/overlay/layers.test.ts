import t from 'tap'
import * as f from '../../lib/flags.js'
import {
  directoryFlags,
  lowersByFd,
  lowersByName,
  type OpenLayers,
  ownTrees,
  setDirectory,
} from '../../lib/overlay/layers.js'
import { renderCall } from '../../lib/program/explain.js'
import { held } from '../../lib/program/plan.js'
import type { Slot, Step } from '../../lib/program/step.js'
import { kernels } from './kernels.js'

const fs: Slot = { slot: 0, name: 'fs' }
const spare: Slot = { slot: 9, name: 'layer' }
const newest = kernels['6.18']
const long = Buffer.alloc(256, 'x')

/** Five layers: two below one directory, one below it with a long name, one that is a root itself, one of data. */
const layers = (): OpenLayers => {
  const names = [Buffer.from('1/fs'), Buffer.from('2/fs'), undefined, long, Buffer.from('d')]
  const groups = [0, 0, 1, 0, 2]
  return {
    list: names.map((name, i) => ({
      subject: { option: i < 4 ? 'lowerdir' : 'datadir', index: i < 4 ? i : 0, path: `/l/${i}` },
      key: i < 4 ? 'lowerdir+' : 'datadir+',
      identity: { dev: 1n, ino: BigInt(100 + i), mountId: 5n },
      fd: held(10 + i, `/l/${i}`),
      group: groups[i]!,
      name,
    })),
    groups: [0, 1, 2].map((i) => ({ root: held(20 + i, `/g/${i}`) })),
    idmapped: true,
    staged: false,
    userns: undefined,
  }
}
const calls = (steps: readonly Step[]) =>
  steps.map(
    (step) =>
      `${renderCall(step)
        .replaceAll(long.toString(), 'LONG')
        .replace(/STATX_.*\b, statx/, '…')}${step.out ? ` = ${step.out.name}` : ''}`,
  )

t.test('how a directory is opened and given', async (t) => {
  const dir = held(7, '/d')
  const table: [keyof typeof kernels, number, string][] = [
    ['6.18', f.O_PATH, 'fsconfig(fs, FSCONFIG_SET_FD, "upperdir", NULL, 7</d>)'],
    ['6.13', f.O_RDONLY, 'fsconfig(fs, FSCONFIG_SET_FD, "upperdir", NULL, 7</d>)'],
    ['6.7', f.O_PATH, 'fsconfig(fs, FSCONFIG_SET_STRING, "upperdir", "/proc/self/fd/7", 0)'],
  ]
  for (const [kernel, access, call] of table) {
    const features = kernels[kernel]
    t.equal(directoryFlags(features), access | f.O_DIRECTORY, kernel)
    const subject = { option: 'upperdir' }
    const step = setDirectory(fs, 'upperdir', dir, features, { subject })
    t.equal(renderCall(step), call)
    t.equal(step.subject, subject)
  }
})

t.test('every layer by its fd, with its subject', async (t) => {
  const open = layers()
  const steps = lowersByFd(fs, open, newest)
  t.same(calls(steps), [
    'fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, 10</l/0>)',
    'fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, 11</l/1>)',
    'fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, 12</l/2>)',
    'fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, 13</l/3>)',
    'fsconfig(fs, FSCONFIG_SET_FD, "datadir+", NULL, 14</l/4>)',
  ])
  steps.forEach(({ subject }, i) => {
    t.equal(subject, open.list[i]!.subject)
  })
})

t.test('by name below new trees: each name is looked at first', async (t) => {
  const open = layers()
  const trees = [1, 2, 3].map((slot): Slot => ({ slot, name: `tree ${slot}` }))
  const mounts = [0, 1, 2].map((register) => ({ register, name: `r${register}` }))
  const steps = lowersByName(fs, open, { trees, mounts, spare, areClones: true }, newest)
  const look = (name: string) => `statx(AT_FDCWD, "${name}", AT_SYMLINK_NOFOLLOW|AT_NO_AUTOMOUNT, …)`
  t.same(calls(steps), [
    'fchdir(tree 1)',
    look('1/fs'),
    'fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", "1/fs", 0)',
    look('2/fs'),
    'fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", "2/fs", 0)',
    'fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, tree 2)',
    'openat2(tree 1, "LONG", {flags=O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, ' +
      'resolve=RESOLVE_NO_SYMLINKS|RESOLVE_BENEATH}, 24) = layer',
    'statx(layer, "", AT_EMPTY_PATH, …)',
    'fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, layer)',
    'close(layer)',
    'fchdir(tree 3)',
    look('d'),
    'fsconfig(fs, FSCONFIG_SET_STRING, "datadir+", "d", 0)',
  ])
  const looked = steps.filter(({ call }) => call === 'statx')
  const of = [0, 1, 3, 4]
  t.same(
    looked.map(({ expect }) => expect?.map(({ value }) => value)),
    of.map((i) => [BigInt(100 + i), 1n, mounts[open.list[i]!.group]]),
    'the inode, the device, and the mount that the tree is',
  )
})

t.test('by name below the stack’s own trees', async (t) => {
  const open = layers()
  const [first, second, third] = open.groups as [
    OpenLayers['groups'][0],
    OpenLayers['groups'][0],
    OpenLayers['groups'][0],
  ]
  const groups = [{ ...first, tree: held(30, 'tree'), mountId: 77n }, second, { ...third, mountId: 78n }]
  const own = ownTrees({ ...open, groups }, spare)
  t.same(own, {
    trees: [held(30, 'tree'), second.root, third.root],
    mounts: [77n, 0n, 78n],
    spare,
    areClones: true,
  })
  const steps = lowersByName(fs, { ...open, groups }, own, kernels['6.13'])
  t.match(calls(steps), [
    'fchdir(30<tree>)',
    /^statx/,
    /"1\/fs"/,
    /^statx/,
    /"2\/fs"/,
    'fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, 12</l/2>)',
    /^openat2\(30<tree>, "LONG", {flags=O_RDONLY\|O_DIRECTORY\|O_CLOEXEC, /,
    /^statx/,
    /^fsconfig/,
    /^close/,
    'fchdir(22</g/2>)',
    /^statx/,
    /"d"/,
  ])
  t.equal(steps[1]?.expect?.[2]?.value, 77n)
  t.equal(steps.at(-2)?.expect?.[2]?.value, 78n)
})

t.test('below a directory of the caller’s, where links are followed, by fd', async (t) => {
  const open = { ...layers(), idmapped: false }
  const trees = ownTrees(open, spare)
  t.equal(trees.areClones, false)
  const steps = lowersByName(fs, open, trees, newest)
  t.same(calls(steps).slice(0, 4), [
    'openat2(20</g/0>, "1/fs", {flags=O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, ' +
      'resolve=RESOLVE_NO_SYMLINKS|RESOLVE_BENEATH}, 24) = layer',
    'statx(layer, "", AT_EMPTY_PATH, …)',
    'fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, layer)',
    'close(layer)',
  ])
  t.notMatch(calls(steps).join(), /SET_STRING|fchdir/)
})

t.test('255 bytes are a name, 256 are opened', async (t) => {
  for (const [length, call] of [
    [255, 'statx'],
    [256, 'openat2'],
  ] as const) {
    const open = layers()
    const list = [{ ...open.list[0]!, name: Buffer.alloc(length, 'n') }]
    const trees = { trees: [fs], mounts: [0n], spare, areClones: true }
    const steps = lowersByName(fs, { ...open, list }, trees, newest)
    t.ok(
      steps.some((step) => step.call === call),
      `${length}`,
    )
    t.equal(
      steps.some((step) => step.call === 'openat2'),
      length === 256,
    )
  }
})
