/** What the tables of causes are made of: a row, and what rows need to make trouble. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync } from 'node:fs'
import type { OverlayMountOptions, RungName } from '../../../lib/index.js'
import type { Container, Scratch } from '../scratch.js'

interface Given {
  readonly area: Scratch
  readonly lowerdir: string[]
  readonly at: Container
}
type Options = Omit<OverlayMountOptions, 'lowerdir'> & { lowerdir?: string[] }

export interface Row {
  readonly cause: string
  /** what is wrong: options that replace the good ones */
  readonly make: (given: Given) => Options
  readonly code: string
  /** of the failing call; of a rung where it differs */
  readonly call: string | Readonly<Record<RungName, string>>
  readonly hint: RegExp
  /** every rung unless told */
  readonly rungs?: readonly RungName[]
}

export const sh = (...args: string[]): void => {
  execFileSync(args[0] as string, args.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
}
export const overlay = (target: string, lower: string): string => {
  mkdirSync(target, { recursive: true })
  sh('mount', '-n', '-t', 'overlay', '-o', `lowerdir=${lower}`, 'overlayfd-test', target)
  return target
}
/** Every name there is, but for what the kernel leaves in a work directory that was there. */
export const names = (area: Scratch): string[] =>
  readdirSync(area.dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => !/work\/(work|index)(\/|$)/.test(name))
    .sort()
export const create = {
  'detached-tree': 'fsconfig',
  direct: 'fsconfig',
  staged: 'fsconfig',
  'staged-classic': 'mount',
  classic: 'mount',
} as const
export const attach = {
  'detached-tree': 'move_mount',
  direct: 'move_mount',
  staged: 'move_mount',
  'staged-classic': 'move_mount',
  classic: 'openat',
} as const
/** They see upper and work where the caller does. */
export const unstaged = ['detached-tree', 'direct', 'classic'] as const
export const noIdmap = ['direct', 'classic'] as const
export const replaced = (lowerdir: string[], i: number, path: string) =>
  lowerdir.map((layer, j) => (i === j ? path : layer))
