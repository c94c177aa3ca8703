/**
 * What is going on, on stderr: one line that is rewritten on a terminal, a line each where it goes to a file.
 */
export class Progress {
  #total
  #done = 0
  #begin = performance.now()
  #stream

  /**
   * @param {number} total how many steps there will be
   * @param {{ write(text: string): unknown, isTTY?: boolean, columns?: number }} [stream]
   */
  constructor(total, stream = process.stderr) {
    this.#total = total
    this.#stream = stream
  }

  /** A step begins. @param {string} text what it is */
  step(text) {
    const line = `[${this.#done + 1}/${this.#total}] ${text}${this.#left()}`
    this.#done++
    if (!this.#stream.isTTY) this.#stream.write(`${line}\n`)
    else this.#stream.write(`\r\x1b[K${line.slice(0, (this.#stream.columns ?? 80) - 1)}`)
  }

  /** All is done, or failed: the line is free for others. */
  end() {
    if (this.#stream.isTTY) this.#stream.write('\r\x1b[K')
  }

  /** @returns {string} steps differ, so this is a guess, and there is none before the first ones */
  #left() {
    if (this.#done < 5) return ''
    const each = (performance.now() - this.#begin) / this.#done
    return `, ${Math.ceil((each * (this.#total - this.#done)) / 1e3)} s left`
  }
}
