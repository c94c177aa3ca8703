/**
 * What is to come of each scenario behind each filter, as data. What is not said is as without a filter: the same
 * rung, the same notes, the same mount.
 */
import type { RungName } from '../../lib/index.js'
import type { CallName, Refusal, Rule } from '../support/seccomp.js'
import type { ScenarioName } from './scenarios.js'

export type Outcome =
  /** another rung serves, and says why */
  | { readonly rung: RungName; readonly note: RegExp }
  /** one error; `stays`: what was mounted by then is still mounted, because it was the unmount that was refused */
  | { readonly error: RegExp; readonly stays?: true }

export interface Filter {
  readonly name: string
  readonly rules: readonly Rule[]
  /** node cannot be started behind it */
  readonly late?: true
  /** a capability that is dropped too */
  readonly without?: string
  readonly expected: Readonly<Partial<Record<ScenarioName, Outcome>>>
}

const every: readonly ScenarioName[] = [
  ...['plain', 'shifted', 'own mapping', 'idmapped upper', 'detached', 'inside', 'inside, idmapped', 'bind', 'tmpfs'] as const,
  ...['reconfigured', 'open', 'reconcile', 'detached-tree', 'direct', 'staged', 'staged-classic', 'classic'] as const,
  ...['changed', 'moved', 'shared', 'one layer', 'one layer, shifted', 'Sync', 'Sync, shifted', 'many'] as const,
  ...['images', 'images, shifted', 'attached inside', 'taken over', 'group', 'opened'] as const,
] // biome-ignore format: a list
const mapped: readonly ScenarioName[] = [
  ...([
    'shifted',
    'own mapping',
    'idmapped upper',
    'inside, idmapped',
    'one layer, shifted',
    'Sync, shifted',
    'images, shifted',
  ] as const),
]
const visits: readonly ScenarioName[] = ['inside', 'inside, idmapped']
const staged: readonly ScenarioName[] = ['staged', 'staged-classic']
/** taken over, which is mounted already */
const taken: readonly ScenarioName[] = ['open', 'opened', 'reconcile']

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

/** How features() says that a call is refused. */
const reason = (call: string, answer: Refusal): string =>
  escaped(
    answer === 'ENOSYS'
      ? `ENOSYS: this kernel has no ${call}, or a filter (seccomp) hides it`
      : `EPERM: a filter (seccomp) refuses ${call}`,
  )
/** The same of a call that was met on the way. */
const hint = (call: string, answer: Refusal): string =>
  answer === 'ENOSYS'
    ? reason(call, answer).replace('ENOSYS: ', '')
    : `a filter \\(seccomp\\) or a security module refuses ${call}`

type Expected = Filter['expected']
const each = (names: readonly ScenarioName[], outcome: Outcome): Expected =>
  Object.fromEntries(names.map((name) => [name, outcome]))
const but = (names: readonly ScenarioName[], ...others: ScenarioName[]) =>
  names.filter((name) => !others.includes(name))

/** A feature that a filter takes away: what falls back to another rung, and what nothing serves. */
const lacking = (
  feature: string,
  falls: Readonly<Partial<Record<ScenarioName, RungName>>>,
  refused: readonly ScenarioName[],
) => {
  return (call: CallName, answer: Refusal): Expected => {
    const why = `${feature} is missing \\(${reason(call, answer)}\\)`
    const served = Object.entries(falls).map(([name, rung]): [string, Outcome] => [
      name,
      { rung, note: new RegExp(`was passed over: .*${why}`) },
    ])
    const error = new RegExp(`^RungError: .*${why}`)
    return { ...Object.fromEntries(served), ...each(refused, { error }) }
  }
}

const fallsOf = (rung: RungName, ...names: ScenarioName[]) =>
  Object.fromEntries(names.map((name) => [name, rung])) as Partial<Record<ScenarioName, RungName>>

const fsContext = lacking(
  'fsContext',
  fallsOf(
    'classic',
    ...([
      'plain',
      'bind',
      'tmpfs',
      'reconfigured',
      'changed',
      'moved',
      'shared',
      'one layer',
      'Sync',
      'many',
      'group',
    ] as const),
  ),
  [
    ...mapped,
    'detached',
    'inside',
    'attached inside',
    'taken over',
    'images',
    'detached-tree',
    'direct',
    ...staged,
  ],
)
const nothing = () => ({})

/** The staging namespace cannot be made. */
const firstUse =
  (call: string) =>
  (_: CallName, answer: Refusal): Expected =>
    each(staged, {
      error: new RegExp(
        `^RungError: rung .* mountNamespaces is missing \\(${answer} ${answer === 'ENOSYS' ? 'at its first use' : 'this time'}: ${call}`,
      ),
    })

/** The errors of a call that is met on the way. */
const met =
  (names: readonly ScenarioName[], call: string, stays?: true) =>
  (_: CallName, answer: Refusal): Expected =>
    each(names, {
      error: new RegExp(
        `^(MountError|Error: not unmounted): ${answer}: .*${call}\\(.*hint: ${hint(call, answer)}`,
      ),
      ...(stays && { stays }),
    })

/** Trees are made by two calls instead of one. */
const byTwoCalls = (call: CallName, answer: Refusal): Expected =>
  each([...mapped, 'detached-tree'], {
    rung: 'detached-tree',
    note: new RegExp(`openTreeAttr is missing \\(${reason(call, answer)}\\): open_tree and mount_setattr`),
  })

const all =
  (...parts: ((call: CallName, answer: Refusal) => Expected)[]) =>
  (call: CallName, answer: Refusal): Expected =>
    Object.assign({}, ...parts.map((part) => part(call, answer)))

/** It is mounted by then, and stays detached. */
const noVisit =
  (feature: string) =>
  (call: CallName, answer: Refusal): Expected =>
    each(['attached inside'], {
      error: new RegExp(
        `^Error: .* no other mount namespace can be entered: ${feature} is missing \\(${reason(call, answer)}`,
      ),
    })

const noDirectory = (call: CallName, answer: Refusal): Expected => ({
  classic: {
    rung: 'classic',
    note: new RegExp(`^ownDirectory is missing \\(${reason(call, answer)}\\): fewer`),
  },
})

const table: Readonly<Record<CallName, (call: CallName, answer: Refusal) => Expected>> = {
  fsopen: fsContext,
  fsconfig: fsContext,
  fsmount: fsContext,
  // what moves is not made anew
  move_mount: all(fsContext, met(['moved'], 'move_mount')),
  open_tree: lacking('openTree', fallsOf('classic', 'bind', 'moved', 'one layer'), [...mapped, 'detached-tree', ...staged]),
  open_tree_attr: byTwoCalls,
  mount_setattr: lacking('mountSetattr', fallsOf('classic', 'bind', 'moved', 'shared'), staged),
  statmount: nothing,
  listmount: nothing,
  openat2: all(lacking('openat2', {}, [...mapped, 'inside', 'moved', 'detached-tree', ...staged]), noVisit('openat2')),
  setns: all(lacking('mountNamespaces', {}, [...visits, ...staged]), noVisit('mountNamespaces')),
  unshare: all(lacking('mountNamespaces', {}, [...visits, ...staged]), noVisit('mountNamespaces'), noDirectory),
  fchdir: all(lacking('ownDirectory', {}, [...visits, ...staged]), noVisit('ownDirectory'), noDirectory),
  pivot_root: firstUse('pivot_root'),
  // a group is made private by it
  mount: all(firstUse('mount'), (_, answer) => each(['classic', 'group'], {
    error: new RegExp(`^MountError: ${answer}: .* mount\\(.*hint: .*filter \\(seccomp\\).* (refuses|hides)`),
  })),
  // engines look at its flags; clone3 hides them in memory, so it is not there
  clone: (_, answer) =>
    each([...mapped, 'detached-tree', ...staged], {
      error: new RegExp(
        answer === 'ENOSYS'
          ? '^MountError: ENOSYS: .* userns\\(.*hint: a filter \\(seccomp\\) hides clone\\(CLONE_NEWUSER\\)'
          : '^MountError: EPERM: .* userns\\(.*user namespaces must be allowed, by a filter \\(seccomp\\) too',
      ),
    }),
  clone3: (_, answer) =>
    answer === 'ENOSYS'
      ? {}
      : each(every, {
          error: /^SyscallError: EPERM: .* pthread_create\(.*hint: a filter \(seccomp\) refuses clone3/,
          stays: true,
        }),
  fspick: nothing,
  prctl: nothing,
  statx: all(met(but(every, ...taken, ...staged), 'statx'), firstUse('statx'), (call, answer) =>
    each(taken, {
      error: new RegExp(`^Error: mounts cannot be told apart here: ${reason(call, answer)}$`),
      stays: true,
    }),
  ),
  umount2: all(met(but(every, ...staged), 'umount2', true), firstUse('umount2')),
} // biome-ignore format: a table

const CLONE_NEWUSER = 0x1000_0000
/** CLONE_NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWCGROUP */
const newNamespaces = 0x7e02_0000

/** A filter of each call on its own. */
export const filtersOf = (answer: Refusal): Filter[] =>
  (Object.keys(table) as CallName[]).map((call) => ({
    name: `${call} ${answer}`,
    rules:
      call === 'clone'
        ? [{ call, answer, flags: CLONE_NEWUSER }, { call: 'clone3', answer: 'ENOSYS' }]
        : [{ call, answer }],
    ...(call === 'clone3' && answer === 'EPERM' && { late: true }),
    expected: table[call](call, answer),
  })) // biome-ignore format: short

const refuse = (calls: readonly CallName[], answer: Refusal): Rule[] =>
  calls.map((call) => ({ call, answer }))

/** What engines let through with CAP_SYS_ADMIN only. */
const administrative: readonly CallName[] = [
  ...['mount', 'umount2', 'fsopen', 'fsconfig', 'fsmount', 'fspick', 'move_mount', 'open_tree'] as const,
  ...['mount_setattr', 'setns', 'unshare'] as const,
] // biome-ignore format: a list
/** What their profiles do not name: EPERM, or ENOSYS of runtimes for calls that are younger than the profile. */
const unnamed: readonly CallName[] = ['statmount', 'listmount', 'open_tree_attr']
const cloneFlags: readonly Rule[] = [
  { call: 'clone', answer: 'EPERM', flags: newNamespaces },
  { call: 'clone3', answer: 'ENOSYS' },
]

const mayNot = (why: string): Expected => {
  const error = new RegExp(`^RungError: no rung can .*mayMount is missing \\(EPERM: ${why}`)
  const forced = new RegExp(`^RungError: rung .* cannot compose this: mayMount is missing \\(EPERM: ${why}`)
  return {
    ...each(but(every, ...taken, ...staged, 'detached-tree', 'direct', 'classic'), { error }),
    ...each([...staged, 'detached-tree', 'direct', 'classic'], { error: forced }),
    ...met(taken, 'umount2', true)('umount2', 'EPERM'),
  }
}
const filtered = escaped(
  'CAP_SYS_ADMIN is there, but not in the user namespace that this mount namespace belongs to (unshare it too), or a filter (seccomp) or a security module refuses to mount)',
)

/** The default profiles of engines, as far as mounting is concerned. */
export const profiles: readonly Filter[] = [
  ...(['EPERM', 'ENOSYS'] as const).map((answer): Filter => ({
    name: `the default profile, unnamed calls ${answer}`,
    rules: [...refuse([...administrative, 'pivot_root'], 'EPERM'), ...cloneFlags, ...refuse(unnamed, answer)],
    expected: mayNot(filtered),
  })),
  {
    name: 'the default profile, no CAP_SYS_ADMIN',
    rules: [...refuse([...administrative, 'pivot_root'], 'EPERM'), ...cloneFlags, ...refuse(unnamed, 'ENOSYS')],
    without: 'sys_admin',
    expected: mayNot(escaped('no CAP_SYS_ADMIN in the user namespace of this mount namespace)')),
  },
  ...(['EPERM', 'ENOSYS'] as const).map((answer): Filter => ({
    // the calls are let through but for pivot_root, which no capability opens
    name: `the default profile with CAP_SYS_ADMIN, unnamed calls ${answer}`,
    rules: [...refuse(['pivot_root'], 'EPERM'), ...refuse(unnamed, answer)],
    expected: {
      ...byTwoCalls('open_tree_attr', answer),
      ...firstUse('pivot_root')('pivot_root', 'EPERM'),
    },
  })),
] // biome-ignore format: a table
