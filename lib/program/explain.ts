/**
 * Prints a plan the way strace prints calls, with the names of slots where strace has numbers:
 *
 *   fsopen("overlay", FSOPEN_CLOEXEC) = fs
 *   fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, layer 0)
 *
 * The same printing makes the call in the message of an error, then with the numbers known.
 */
import { printable } from '../errors.js'
import { flagNames } from '../flags/names.js'
import { openFlagsNotation } from '../notation.js'
import type { Plan } from './plan.js'
import { type Arg, calls, type FdArg, type IntArg, isHole, isSlot, type Step, type Text } from './step.js'

function renderFd(fd: FdArg, max = Number.POSITIVE_INFINITY): string {
  const name = fd.name.length > max ? `${fd.name.slice(0, max)}...` : fd.name
  return isSlot(fd) || fd.fd < 0 ? name : `${fd.fd}<${name}>`
}

/** How many bytes of a text the message of an error shows: a path may have 4095. */
export const shownInErrors = 300

/** `max`: bytes of it that are shown; what is longer ends in `"...`, as strace has it. */
export function renderText(text: Text, max = Number.POSITIVE_INFINITY): string {
  const parts = typeof text === 'string' || text instanceof Uint8Array || isHole(text) ? [text] : text
  let shown = ''
  let left = max
  for (const part of parts) {
    if (left < 0) break
    if (typeof part !== 'string' && !(part instanceof Uint8Array)) {
      const fd = isHole(part) || isSlot(part) || part.fd < 0 ? `{${part.name}}` : String(part.fd)
      shown += fd
      left -= fd.length
      continue
    }
    const bytes = Buffer.from(part as Uint8Array)
    shown += printable(bytes.subarray(0, left))
    left -= bytes.length
  }
  return `"${shown}"${left < 0 ? '...' : ''}`
}

function renderInt({ value, flags, symbol }: IntArg): string {
  if (symbol !== undefined) return symbol
  if (isHole(value)) return `{${value.name}}`
  if (flags === undefined) return String(value)
  if (flags === '0') return `0${value.toString(8)}`
  return flags === 'O' ? openFlagsNotation(Number(value)) : flagNames(value, ...flags.split(' '))
}

function renderArg(arg: Arg, max: number | undefined): string {
  switch (arg.kind) {
    case 'fd':
      return renderFd(arg.fd, max)
    case 'int':
      return renderInt(arg)
    case 'null':
      return 'NULL'
    case 'text':
      return renderText(arg.text, max)
    case 'bytes':
      return `"${printable(arg.bytes)}", ${arg.bytes.length}`
    case 'open_how':
      return `{flags=${openFlagsNotation(arg.flags)}, resolve=${flagNames(arg.resolve, 'RESOLVE')}}`
    case 'mount_attr': {
      const { set, clear, propagation, userns } = arg.attr
      const fields = [
        `attr_set=${flagNames(set, 'MOUNT_ATTR')}`,
        `attr_clr=${flagNames(clear, 'MOUNT_ATTR')}`,
      ]
      fields.push(`propagation=${flagNames(propagation, 'MS')}`)
      if (userns) fields.push(`userns_fd=${renderFd(userns)}`)
      return `{${fields.join(', ')}}`
    }
    case 'out':
      return arg.what
  }
}

/** `fsmount(fs, FSMOUNT_CLOEXEC, 0)`: one step as a call; `max` is of `renderText`. */
export function renderCall(step: Step, max?: number): string {
  const args = step.args.map((arg, i) => {
    const size = calls[step.call][i] === 'a' ? ', 32' : calls[step.call][i] === 'h' ? ', 24' : ''
    return renderArg(arg, max) + size
  })
  return `${step.call}(${args.join(', ')})`
}

function renderStep(step: Step): string {
  const result = step.out ? ` = ${step.out.name}` : ''
  const expected = (step.expect ?? []).map(({ field, mask, value }) => {
    const masked = mask === undefined ? field.name : `${field.name}&0x${mask.toString(16)}`
    return `${masked}=${typeof value === 'bigint' ? value : value.name}`
  })
  const expects = expected.length > 0 ? `  expect ${expected.join(' ')}` : ''
  const when = step.when === 'undo' ? 'on failure: ' : ''
  return `${when}${renderCall(step)}${result}${expects}`
}

/** The whole plan: a headline with the cost, the notes, and a line a call. */
export function renderPlan(plan: Plan): string {
  const { namespaceSemWrites, gracePeriods, syscalls, temporaryMounts } = plan.cost
  const lines = [
    `${plan.title}: ${syscalls} system calls, ${namespaceSemWrites} namespace_sem writes, ` +
      `${gracePeriods} grace periods, ${temporaryMounts} temporary mounts`,
    ...plan.notes.map((note) => `  note: ${note}`),
    ...plan.steps.map((step) => `  ${renderStep(step)}`),
  ]
  return lines.join('\n')
}
