/**
 * A user without rights who has subordinate ids. His /etc is a copy that is bound over the machine's, in a mount
 * namespace that only his commands have. So is Node, and the package is a copy: he reads both, whatever the modes of the
 * directories above.
 */
import { execFileSync } from 'node:child_process'
import { appendFileSync, chownSync, cpSync, writeFileSync } from 'node:fs'
import { type Ended, type RunOptions, root, run } from './child.js'
import type { Scratch } from './scratch.js'

export const account = { name: 'overlayfd-plain', uid: 54_321, gid: 54_321 } as const
/** what the account's files hold, unless a test says otherwise */
export const subids = { uid: { first: 700_000, count: 65_536 }, gid: { first: 800_000, count: 65_536 } }

export interface Account {
  /** a directory that he owns */
  readonly home: string
  /** `rootless.js` and the like, as an address to import */
  module(file: string): string
  /** runs a command as he */
  run(command: readonly string[], options?: RunOptions): Promise<Ended>
  /** writes an ES module and runs it in Node */
  runModule(text: string, options?: RunOptions & { readonly wrap?: readonly string[] }): Promise<Ended>
  readonly node: string
}

export interface AccountOptions {
  readonly subuid?: string
  readonly subgid?: string
  /** a script of sh that root runs in the account's mount namespace */
  readonly before?: string
}

const line = ({ first, count }: { first: number; count: number }) => `${account.name}:${first}:${count}\n`

export const plainAccount = (area: Scratch, options: AccountOptions = {}): Account => {
  const { subuid = line(subids.uid), subgid = line(subids.gid), before = ':' } = options
  const [etc, pkg, home] = [area.path('etc'), area.mkdir('package'), area.mkdir('home')]
  execFileSync('cp', ['-a', '/etc', etc])
  const { name, uid, gid } = account
  appendFileSync(`${etc}/passwd`, `${name}:x:${uid}:${gid}::${home}:/bin/sh\n`)
  appendFileSync(`${etc}/group`, `${name}:x:${gid}:\n`)
  writeFileSync(`${etc}/subuid`, subuid)
  writeFileSync(`${etc}/subgid`, subgid)
  for (const part of ['dist', 'build/Release/overlayfd.node', 'node_modules/node-gyp-build', 'package.json']) {
    cpSync(`${root}${part}`, `${pkg}/${part}`, { recursive: true })
  }
  const node = `${pkg}/node`
  writeFileSync(node, '')
  execFileSync('chmod', ['-R', 'a+rX', pkg])
  chownSync(home, uid, gid)
  const enter = ['--mount', '--propagation', 'private', 'sh', '-ec', `mount --bind '${etc}' /etc; mount --bind '${process.execPath}' '${node}'; ${before}; exec "$@"`, 'sh']
  const drop = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--inh-caps=-all', '--']
  const runAs = (command: readonly string[], runOptions: RunOptions = {}) =>
    run('unshare', [...enter, ...drop, ...command], { ...runOptions, env: { HOME: home, ...runOptions.env } })
  let modules = 0
  return {
    home,
    node,
    module: (file) => `file://${pkg}/dist/${file}`,
    run: runAs,
    runModule(text, { wrap = [], ...runOptions } = {}) {
      const file = `${pkg}/module-${modules++}.mjs`
      writeFileSync(file, text, { mode: 0o644 })
      return runAs([...wrap, node, file], runOptions)
    },
  }
} // biome-ignore format: the command in one line
