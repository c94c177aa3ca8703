/**
 * Sets of CPUs (and of NUMA nodes) in the two notations of the kernel, cpuset(7) "FORMATS":
 *
 *   list   `0-3,8,10-11`           ranges in ascending order; nothing at all for the empty set
 *   mask   `00000f00,0000000f`     32 bits a word in hex, highest word first
 *
 * Here a set is an array of numbers, ascending and without repeats. What is not in the notation is
 * undefined and never guessed at: half a list would pass for a smaller machine.
 */

/** Larger than any machine (x86 kernels end at 8192): what keeps a damaged range from filling the memory. */
const MOST = 1 << 16

const ascending = (numbers: Iterable<number>): number[] => [...new Set(numbers)].sort((a, b) => a - b)

/** @returns the set; undefined if `text` is no list of CPUs */
export function parseCpuList(text: string): number[] | undefined {
  const trimmed = text.trim()
  if (trimmed === '') return []
  const cpus: number[] = []
  for (const range of trimmed.split(',')) {
    const found = /^(\d+)(?:-(\d+))?$/.exec(range)
    if (found === null) return undefined
    const first = Number(found[1])
    const last = found[2] === undefined ? first : Number(found[2])
    if (last < first || last >= MOST) return undefined
    for (let cpu = first; cpu <= last; cpu++) cpus.push(cpu)
  }
  return ascending(cpus)
}

/** @returns the set; undefined if `text` is no mask of CPUs */
export function parseCpuMask(text: string): number[] | undefined {
  const words = text.trim().split(',')
  if (words.length > MOST / 32 || !words.every((word) => /^[\da-f]{1,8}$/i.test(word))) return undefined
  const cpus: number[] = []
  for (const [index, word] of words.reverse().entries()) {
    const bits = Number.parseInt(word, 16)
    for (let bit = 0; bit < 32; bit++) if ((bits >>> bit) & 1) cpus.push(index * 32 + bit)
  }
  return cpus
}

/** The list of a set in any order, as the kernel would print it: runs are joined, two neighbours also. */
export function formatCpuList(cpus: Iterable<number>): string {
  const ranges: [number, number][] = []
  for (const cpu of ascending(cpus)) {
    const range = ranges.at(-1)
    if (range !== undefined && range[1] + 1 === cpu) range[1] = cpu
    else ranges.push([cpu, cpu])
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',')
}
