/**
 * The mark that says who made an overlay: written, read back, and judged over process tables of every kind; and that
 * real mounts carry it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readlinkSync } from 'node:fs'
import t from 'tap'
import { Mounter } from '../../lib/index.js'
import {
  isAlive,
  markOf,
  type Owner,
  ownMark,
  ownOwner,
  type ProcessTable,
  parseMark,
} from '../../lib/overlay/owner-mark.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'

t.test('written and read back', async (t) => {
  const owner: Owner = { pidNamespace: 4026531836, pid: 4711, startTime: 8215 }
  t.equal(markOf(owner), 'overlayfd:4026531836/4711@8215')
  t.same(parseMark(markOf(owner)), owner)
  t.same(parseMark('overlayfd:1/1@0'), { pidNamespace: 1, pid: 1, startTime: 0 })
  const others = [
    '',
    'none',
    'overlay',
    'overlayfd',
    'overlayfd:',
    'overlayfd-group',
    'overlayfd:1/2',
    'overlayfd:1/2@',
    'overlayfd:1/2@-3',
    'overlayfd:1/2@3 ',
    ' overlayfd:1/2@3',
    'overlayfd:01/2@3',
    'overlayfd:1/0@3',
    'overlayfd:1/-1@3',
    'overlayfd:1/2@3\n',
    'overlayfd:1/2@3.5',
    'overlayfd:1/99999999999@3',
    'overlayfd:1/2@9999999999999999',
    'xoverlayfd:1/2@3',
  ]
  for (const other of others) t.equal(parseMark(other), undefined, JSON.stringify(other))
})

/** A table of one pid namespace, in which we are 10, and 20 is another process. */
const table = (files: Record<string, string>, change: Partial<ProcessTable> = {}): ProcessTable => {
  const all: Record<string, string> = {
    'self/stat': stat(10, 'node', 'S', 500),
    '20/stat': stat(20, 'other', 'S', 700),
    ...files,
  }
  const links: Record<string, string> = { self: '10', 'self/ns/pid': 'pid:[77]' }
  return {
    self: 10,
    read: (file) => all[file],
    link: (file) => links[file],
    exists: (pid) => all[`${pid}/stat`] !== undefined,
    ...change,
  }
}
const stat = (pid: number, name: string, state: string, start: number) =>
  `${pid} (${name}) ${state} 1 ${pid} ${pid} 0 -1 4194304 ${'0 '.repeat(12)}${start} 1000 10`
const other: Owner = { pidNamespace: 77, pid: 20, startTime: 700 }

t.test('the own process', async (t) => {
  t.same(ownOwner(table({})), { pidNamespace: 77, pid: 10, startTime: 500 })
  const odd = stat(10, 'a) Z 1 (b', 'S', 500)
  t.same(ownOwner(table({ 'self/stat': odd }))?.startTime, 500, 'a name that looks like fields')
  const shifted = table({ 'self/timens_offsets': 'monotonic 0 0\nboottime 3 500000000\n' })
  t.same(ownOwner(shifted)?.startTime, 150, 'as the first time namespace counts')
  t.equal(ownOwner(table({}, { link: () => undefined })), undefined, 'no /proc')
  t.equal(ownOwner(table({}, { read: () => undefined })), undefined, 'a /proc that may not be read')
  t.equal(ownOwner(table({}, { self: 11 })), undefined, 'the /proc of another pid namespace')
})

t.test('alive, dead, not known', async (t) => {
  const ended = table({}, { exists: () => false })
  const cases: [string, Owner, ProcessTable, boolean | undefined][] = [
    ['alive', other, table({}), true],
    ['ended', other, ended, false],
    ['its pid is another process’s by now', { ...other, startTime: 600 }, table({}), false],
    ['a zombie', other, table({ '20/stat': stat(20, 'other', 'Z', 700) }), false],
    ['of another pid namespace', { ...other, pidNamespace: 78 }, table({}), undefined],
    ['of another pid namespace, and no such pid', { ...other, pidNamespace: 78 }, ended, undefined],
    ['hidden by /proc', other, table({}, { read: () => undefined, exists: () => true }), undefined],
    ['/proc of another pid namespace', other, table({}, { self: 11 }), undefined],
  ]
  for (const [name, owner, at, expected] of cases) t.equal(isAlive(owner, at), expected, name)
  const shifted = { 'self/timens_offsets': 'boottime -2 0', '20/stat': stat(20, 'other', 'S', 500) }
  t.equal(isAlive(other, table(shifted)), true, 'seen from another time namespace')
})

t.test('this process, and a child', async (t) => {
  const own = ownOwner()!
  t.equal(own.pid, process.pid)
  t.equal(`pid:[${own.pidNamespace}]`, readlinkSync('/proc/self/ns/pid'))
  t.equal(parseMark(ownMark()!)?.pid, process.pid)
  t.equal(isAlive(own), true)
  t.equal(isAlive({ ...own, startTime: own.startTime + 100 }), false)
  const child = spawn('sleep', ['60'])
  await once(child, 'spawn')
  const text = readFileSync(`/proc/${child.pid}/stat`, 'latin1')
  const startTime = Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[19])
  const owner = { pidNamespace: own.pidNamespace, pid: child.pid!, startTime }
  t.equal(isAlive(owner), true)
  child.kill('SIGKILL')
  await once(child, 'exit')
  t.equal(isAlive(owner), false)
})

for (const { rung, idmap } of ways) {
  t.test(`mounts carry it: ${rung}`, privileged, async (t) => {
    const area = scratch(t)
    const at = area.container('c')
    const mounter = new Mounter({ rung })
    const rootfs = await mounter.mount({ lowerdir: area.layers(2), idmap, ...at })
    const [mount] = mounts().filter((each) => isBelow(each, at.target))
    t.equal(mount?.source.toString(), ownMark())
    await rootfs.unmount()
    await mounter.close()
  })
}
