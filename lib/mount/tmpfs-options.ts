/** The options of tmpfs, typed: one table holds for the type's checks, the fsconfig steps and the data of mount(2). */
import { checkKeys } from '../check.js'
import { invalidArgType, invalidArgValue, outOfRange } from '../errors.js'
import type { ParsedOption } from '../overlay/options.js'

/** Options of a tmpfs: tmpfs(5), Documentation/filesystems/tmpfs.rst. What is left out keeps the kernel's default. */
export interface TmpfsOptions {
  /** bytes, or a text such as `'64m'` or `'50%'` of the machine's memory; 0 is no limit. Default: half of the memory */
  size?: number | string
  /** the same in pages; excludes `size` */
  nr_blocks?: number | string
  /** inodes; 0 is no limit. Default: half the number of the machine's pages */
  nr_inodes?: number | string
  /** mode of its root, such as `0o755`. Default: 0o1777 */
  mode?: number
  /** owner of its root, as the caller's user namespace has it. Default: the caller */
  uid?: number
  /** group of its root */
  gid?: number
  /** huge pages; what they need: CONFIG_TRANSPARENT_HUGEPAGE. Since Linux 4.8 */
  huge?: 'never' | 'always' | 'within_size' | 'advise'
  /** memory policy for its files, such as `'bind:0-1'`; needs CONFIG_NUMA */
  mpol?: string
  /** inode numbers of 64 bits (`true`) or 32. Since Linux 5.9 */
  inode64?: boolean
  /** its pages are never swapped out; not in a user namespace. Since Linux 6.4 */
  noswap?: boolean
}

/** What of a tmpfs can be changed while it is mounted; the kernel takes the others without an error and ignores them. */
export type TmpfsChange = Pick<TmpfsOptions, 'size' | 'nr_blocks' | 'nr_inodes' | 'huge' | 'mpol'>

const changeable = ['size', 'nr_blocks', 'nr_inodes', 'huge', 'mpol'] as const
const huge = ['never', 'always', 'within_size', 'advise']
const maxId = 0xffff_fffe

type Parse = (value: unknown, name: string) => string

const amount =
  (units: RegExp): Parse =>
  (value, name) => {
    if (typeof value === 'string') {
      if (units.test(value)) return value
      throw invalidArgValue(name, value, "must be a number, as the kernel writes it: '1024', '64m'")
    }
    return whole(value, name, Number.MAX_SAFE_INTEGER)
  }

function whole(value: unknown, name: string, max: number): string {
  if (typeof value !== 'number') throw invalidArgType(name, 'number', value)
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw outOfRange(name, `a whole number from 0 to ${max}`, value)
  }
  return String(value)
}

const id: Parse = (value, name) => whole(value, name, maxId)

const table: Readonly<Record<Exclude<keyof TmpfsOptions, 'inode64' | 'noswap'>, Parse>> = {
  size: amount(/^\d+([kmgtpe]|%)?$/i),
  nr_blocks: amount(/^\d+[kmgtpe]?$/i),
  nr_inodes: amount(/^\d+[kmgtpe]?$/i),
  mode: (value, name) => Number(whole(value, name, 0o7777)).toString(8),
  uid: id,
  gid: id,
  huge: (value, name) => {
    if (typeof value !== 'string') throw invalidArgType(name, 'string', value)
    if (huge.includes(value)) return value
    throw invalidArgValue(name, value, `must be one of '${huge.join("', '")}'`)
  },
  mpol: (value, name) => {
    if (typeof value !== 'string') throw invalidArgType(name, 'string', value)
    // in the data of mount(2) a comma begins the next option, but before a digit (mm/shmem.c)
    if (/^[a-z]+([=:][\w=,:-]*)?$/.test(value) && !/,(?!\d)/.test(value)) return value
    throw invalidArgValue(name, value, "must be a memory policy, such as 'interleave:0-3'")
  },
}
/** Their names. */
export const tmpfsOptions: readonly string[] = [...Object.keys(table), 'inode64', 'noswap']

/** Checks options; `name` is what errors call them. */
export function parseTmpfs(options: unknown, name: string, only = tmpfsOptions): ParsedOption[] {
  if (options === undefined) return []
  const given: TmpfsOptions = checkKeys(options, name, tmpfsOptions)
  const list: ParsedOption[] = []
  for (const [key, value] of Object.entries(given)) {
    if (!only.includes(key)) {
      throw invalidArgValue(`${name}.${key}`, value, 'cannot be changed any more: the kernel would ignore it')
    }
    if (value === undefined) continue
    if (key === 'inode64' || key === 'noswap') {
      if (typeof value !== 'boolean') throw invalidArgType(`${name}.${key}`, 'boolean', value)
      if (key === 'inode64') list.push({ key: value ? 'inode64' : 'inode32' })
      else if (value) list.push({ key })
    } else list.push({ key, value: table[key as keyof typeof table](value, `${name}.${key}`) })
  }
  const { size, nr_blocks } = given
  if (size !== undefined && nr_blocks !== undefined) {
    throw invalidArgValue(`${name}.nr_blocks`, nr_blocks, 'excludes size')
  }
  return list
}

/** The same of what is to be changed. */
export const parseTmpfsChange = (options: unknown, name: string): ParsedOption[] =>
  parseTmpfs(options, name, changeable)

/** `size=64m,mode=755`: the data of mount(2) */
export const tmpfsData = (list: readonly ParsedOption[]): string =>
  list.map(({ key, value }) => (value === undefined ? key : `${key}=${value}`)).join(',')
