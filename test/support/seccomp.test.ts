/** The filters of tests: that the numbers are the calls', and that what is filtered is refused, and nothing else. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { type Ended, root, run } from './child.js'
import { carriedValues, headerValues } from './headers.js'
import { all, privileged, programs } from './needs.js'
import {
  behind,
  type CallName,
  callNumbers,
  type Refusal,
  type Rule,
  seccompModule,
  seccompProgram,
} from './seccomp.js'

t.test('numbers: those of the headers, and of native/uapi.h', async (t) => {
  const names = Object.keys(callNumbers) as CallName[]
  const known = headerValues('libc', names.map((name) => `SYS_${name}`))
  const carried = carriedValues()
  t.ok(known.size > 10, `${known.size} are in the headers`)
  for (const name of names) {
    for (const value of [known.get(`SYS_${name}`), carried.get(`SYS_${name}`)]) {
      if (value !== undefined) t.equal(callNumbers[name], value, name)
    }
  }
}) // biome-ignore format: short

/** Makes calls that no kernel refuses with ENOSYS or EPERM, and says what each answered. */
const calls = `
  const b = require('${join(root, 'build/Release/overlayfd.node')}')
  const none = Buffer.from('\\0')
  const every = 0xffffffff
  const answers = {
    fsopen: b.fsopen(none, every), fsconfig: b.fsconfig(-1, 255, null, null, 0), fsmount: b.fsmount(-1, every, 0),
    fspick: b.fspick(-1, none, every), open_tree: b.openTree(-1, none, every), move_mount: b.moveMount(-1, none, -1, none, every),
    open_tree_attr: b.openTreeAttr(-1, none, every, 0n, 0n, 0n, 0n), mount_setattr: b.mountSetattr(-1, none, every, 0n, 0n, 0n, 0n),
    openat2: b.openat2(-1, none, 0n, 0n, 1n << 63n), statx: b.statx(-1, none, -1, 0, Buffer.alloc(256)),
    statmount: b.statmount(0n, 0n, Buffer.alloc(512)), setns: b.setns(-1, 0), unshare: b.unshare(-1), fchdir: b.fchdir(-1),
    umount2: b.umount(Buffer.from('/proc/self/status\\0'), -1), mount: b.mount(null, none, null, 0, null),
  }
  console.log(JSON.stringify(answers))`
const numberOf: Record<Refusal, number> = { EPERM: -1, ENOSYS: -38 }

const node = (rules: readonly Rule[], script: string, late = false): Promise<Ended> => {
  if (!late) return run(process.execPath, behind(rules, [process.execPath, '--eval', script]))
  const install = `require('${seccompModule}').install('${seccompProgram(rules).toString('hex')}');`
  return run(process.execPath, ['--eval', install + script])
}

const answersOf = ({ stdout, stderr }: Ended): Record<string, number> => {
  if (stderr !== '') throw new Error(stderr)
  return JSON.parse(stdout) as Record<string, number>
}

t.test('a call that is refused answers so, and the others as always', privileged, async (t) => {
  const plain = answersOf(await node([], calls))
  const isRefused = (value: number) => Object.values(numberOf).includes(value)
  t.same(Object.keys(plain).filter((name) => isRefused(plain[name]!)), [], 'nothing is refused without a filter')
  const halves = [Object.keys(plain).filter((_, i) => i % 2 === 0), Object.keys(plain).filter((_, i) => i % 2 === 1)]
  for (const answer of ['ENOSYS', 'EPERM'] as const) {
    for (const late of [false, true]) {
      for (const half of halves) {
        const rules = half.map((call): Rule => ({ call: call as CallName, answer }))
        const wanted = { ...plain, ...Object.fromEntries(half.map((name) => [name, numberOf[answer]])) }
        t.same(answersOf(await node(rules, calls, late)), wanted, `${answer}${late ? ', installed later' : ''}`)
      }
    }
  }
}) // biome-ignore format: short

t.test('by the flags of the first argument', all(privileged, programs('unshare')), async (t) => {
  const rules: Rule[] = [{ call: 'unshare', answer: 'EPERM', flags: 0x2000_0000 }]
  const unshare = (flag: string) => run(process.execPath, behind(rules, ['unshare', flag, 'true']))
  t.match(await unshare('--pid'), { status: 1, stderr: /unshare failed: Operation not permitted/ })
  t.match(await unshare('--uts'), { status: 0, stderr: '' })
})

t.test('threads that were there have it too, and what they start', all(privileged, programs('unshare')), async (t) => {
  const script = `
    const { Worker } = require('node:worker_threads')
    const code = 'require("node:worker_threads").parentPort.once("message", () => {' +
      ' const { status, stderr } = require("node:child_process").spawnSync("unshare", ["--uts", "true"]);' +
      ' console.log(status, String(stderr)); process.exit() })'
    const worker = new Worker(code, { eval: true })
    worker.once('online', () => {
      require('${seccompModule}').install('${seccompProgram([{ call: 'unshare', answer: 'ENOSYS' }]).toString('hex')}')
      worker.postMessage('go')
    })`
  t.match(await run(process.execPath, ['--eval', script]), { status: 0, stdout: /^1 .*not implemented/ })
}) // biome-ignore format: short

t.test('a command that is not there', async (t) => {
  t.throws(() => execFileSync(process.execPath, behind([], ['/nowhere']), { stdio: 'pipe' }), /execvp\(\/nowhere\) failed/)
}) // biome-ignore format: short
