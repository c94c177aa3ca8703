/**
 * What V8 counted of lib/ in each process of a run, summed while the run goes on.
 *
 * With NODE_V8_COVERAGE every node writes a file at its end: test files, their workers and children, thousands of them,
 * and most of each file is other people's code. So a file is read as soon as it is whole, what it says of lib/ is added,
 * and it is removed.
 *
 * lib/ runs in two shapes: tests load lib/x.ts, which tap's loader compiles, and children load dist/x.js. Both are the
 * same compiler's work, so that the same function has the same offsets in both, and is one function here. Whether they
 * are the same is looked at, by the lengths of their lines, which V8 keeps of what a loader made.
 */
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { mergeScriptCovs } from '@bcoe/v8-coverage'

/** scripts that wait to be merged: merging many at once costs little more than merging two */
const BATCH = 24

/**
 * @typedef {{ startOffset: number, endOffset: number, count: number }} Range
 * @typedef {{ functionName: string, ranges: Range[], isBlockCoverage: boolean }} FunctionCoverage
 * @typedef {{ scriptId: string, url: string, functions: FunctionCoverage[] }} Script
 * @typedef {{ result: Script[], 'source-map-cache'?: Record<string, { lineLengths: number[] }> }} Report
 */

/**
 * The name of the compiled file, for a script that is of lib/ in either shape.
 * @param {string} root the package's, as a URL with a slash at its end
 * @param {string} url
 */
export const compiledUrl = (root, url) => {
  if (url.startsWith(`${root}dist/`) && url.endsWith('.js')) return url
  if (!url.startsWith(`${root}lib/`) || !url.endsWith('.ts')) return undefined
  return `${root}dist/${url.slice(`${root}lib/`.length, -'.ts'.length)}.js`
}

/**
 * @param {readonly number[]} made lengths of the lines that a loader made, the last of which names its source map
 * @param {string} compiled
 */
export const isSameCode = (made, compiled) => {
  const lines = compiled.split('\n')
  return made.slice(0, -1).every((length, at) => length === lines[at]?.length)
}

/**
 * What lies in `length` characters: the line that names the source map has another length in each shape.
 * @param {Script} script
 * @param {string} url
 * @param {number} length
 * @returns {Script}
 */
const cut = (script, url, length) => ({
  scriptId: '0',
  url,
  functions: script.functions.map((each) => ({
    ...each,
    ranges: each.ranges.map((range) => ({ ...range, endOffset: Math.min(range.endOffset, length) })),
  })),
})

/**
 * A file that no process has loaded.
 * @param {string} url
 * @param {number} length
 * @returns {Script}
 */
const unused = (url, length) => ({
  scriptId: '0',
  url,
  functions: [
    {
      functionName: '',
      ranges: [{ startOffset: 0, endOffset: length, count: 0 }],
      isBlockCoverage: true,
    },
  ],
})

/** @param {Script[]} scripts */
const merged = (scripts) => /** @type {Script} */ (mergeScriptCovs(scripts))

export class Collector {
  /** @type {Map<string, Script[]>} */
  #scripts = new Map()
  /** @type {Map<string, string>} */
  #compiled = new Map()
  #processes = 0

  /**
   * @param {string} dir where processes write: any user's
   * @param {string} root of the package
   */
  constructor(dir, root) {
    this.dir = dir
    this.compiled = join(root, 'dist')
    this.root = `${pathToFileURL(root).href.replace(/\/$/, '')}/`
    rmSync(dir, { recursive: true, force: true })
    mkdirSync(dir, { recursive: true })
    chmodSync(dir, 0o1777)
  }

  /** Adds what is there. A file that is not JSON is being written, or its process was killed while it was. */
  poll() {
    for (const name of readdirSync(this.dir)) {
      const file = join(this.dir, name)
      let report
      try {
        report = JSON.parse(readFileSync(file, 'utf8'))
      } catch {
        continue
      }
      rmSync(file)
      this.add(report)
    }
  }

  /** @param {Report} report */
  add(report) {
    this.#processes++
    for (const script of report.result) {
      const url = compiledUrl(this.root, script.url)
      if (url === undefined) continue
      const text = this.#text(url)
      const made = script.url === url ? undefined : report['source-map-cache']?.[script.url]?.lineLengths
      if (made !== undefined && !isSameCode(made, text))
        throw new Error(`${script.url} is not what ${url} was compiled from`)
      const waiting = [...(this.#scripts.get(url) ?? []), cut(script, url, text.length)]
      this.#scripts.set(url, waiting.length < BATCH ? waiting : [merged(waiting)])
    }
  }

  /** @param {string} url */
  #text(url) {
    const known = this.#compiled.get(url)
    if (known !== undefined) return known
    const text = readFileSync(new URL(url), 'utf8')
    this.#compiled.set(url, text)
    return text
  }

  /**
   * Writes the sum, in V8's own format, with the files that nobody loaded.
   * @param {string} file
   * @returns how many processes were counted
   */
  finish(file) {
    this.poll()
    for (const name of readdirSync(this.compiled, { recursive: true, encoding: 'utf8' })) {
      const url = pathToFileURL(join(this.compiled, name)).href
      if (url.endsWith('.js') && !this.#scripts.has(url))
        this.#scripts.set(url, [unused(url, this.#text(url).length)])
    }
    writeFileSync(file, JSON.stringify({ result: [...this.#scripts.values()].map(merged) }))
    rmSync(this.dir, { recursive: true, force: true })
    return this.#processes
  }
}
