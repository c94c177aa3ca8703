/**
 * The files that tell about a machine, below a directory: `/` for this one, any other for a copy.
 *
 * A file that is missing is no error: kernels, architectures and containers leave different ones out. It is
 * undefined, and whoever asked says in `notes` what is unknown because of it. What is there and cannot be
 * read is noted here, once for all files that differ in a number only.
 *
 * Names are bytes, one character a byte ('latin1'), because those of cgroups need not be UTF-8.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { SyscallError } from '../../errors.js'
import { reading } from '../../exhausted.js'
import { parseCpuList, parseCpuMask } from './cpu-list.js'

export class Tree {
  /** what is unknown, assumed, or could not be read; in words */
  readonly notes: string[] = []
  readonly #root: Buffer

  /** @param root directory of the tree */
  constructor(root: string) {
    this.#root = Buffer.from(root)
  }

  /** What is in a file, without the newline at its end. @param path absolute within the tree */
  text(path: string): string | undefined {
    // a copy made by hwloc-gather-topology may have a NUL behind it
    return this.#try(path, (file) => readFileSync(file, 'latin1').replace(/[\n\0]+$/, ''))
  }

  /** A number that is not negative: the kernel writes -1 for what it does not know. */
  number(path: string): number | undefined {
    const text = this.text(path)
    return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined
  }

  /** The set of CPUs, or of nodes, in the first of these files that is there and holds a list. */
  list(...paths: string[]): number[] | undefined {
    return this.#set(paths, parseCpuList)
  }

  /** As `list`, from a file that holds a mask: all that old kernels and copies made by hwloc have. */
  mask(...paths: string[]): number[] | undefined {
    return this.#set(paths, parseCpuMask)
  }

  /** The numbers n, ascending, of what is named `<prefix>n` in a directory; none if it is not there. */
  numbered(path: string, prefix: string): number[] {
    const names = this.#try(path, (dir) => readdirSync(dir, 'latin1')) ?? []
    return names
      .filter((name) => name.startsWith(prefix) && /^\d+$/.test(name.slice(prefix.length)))
      .map((name) => Number(name.slice(prefix.length)))
      .sort((a, b) => a - b)
  }

  #set(paths: string[], parse: (text: string) => number[] | undefined): number[] | undefined {
    for (const path of paths) {
      const text = this.text(path)
      if (text === undefined) continue
      const cpus = parse(text)
      if (cpus !== undefined) return cpus
      this.#note(path, `not a set of CPUs: ${JSON.stringify(text.slice(0, 40))}`)
    }
    return undefined
  }

  #try<T>(path: string, read: (file: Buffer) => T): T | undefined {
    try {
      const file = Buffer.concat([this.#root, Buffer.from(path, 'latin1')])
      return reading(path, () => read(file))
    } catch (error) {
      // it is there: without it the machine would look like another
      if (error instanceof SyscallError) throw error
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOENT' && code !== 'ENOTDIR') this.#note(path, String(code))
      return undefined
    }
  }

  #note(path: string, what: string): void {
    const files = path.replace(/\d+/g, 'N')
    if (!this.notes.some((note) => note.startsWith(`${files}: `))) this.notes.push(`${files}: ${what}`)
  }
}
