/**
 * Turns a plan into the words that native/run.cc runs.
 *
 *   header   magic, version, slots, registers, holes, number of steps, inputs, outputs, title
 *   step     call | when << 8 | flags << 16 ; out slot | the step it depends on << 16 ; tolerated errnos ;
 *            expectations ; remembered fields ; arguments in the order of the call's signature
 *
 * Words are 32 bits, little-endian (x86-64 and arm64 are); 64-bit values take two, the lower first.
 * Text is a length, the bytes, a NUL, and padding to a whole word. The lists (inputs, tolerated errnos,
 * …) begin with their length. What fills the holes of a run is the texts one after the other, numbers as
 * eight bytes.
 */
import type { Fragment, Plan } from './plan.js'
import {
  type Arg,
  type CallName,
  calls,
  type Expectation,
  type FdArg,
  type Field,
  type Fill,
  type Hole,
  isHole,
  isSlot,
  type Step,
  type Text,
} from './step.js'

const magic = 0x4456464f
const version = 2
const none = 0xffff
const kind = { null: 0, integer: 1, slot: 2, bytes: 3, pieces: 4, attr: 5, how: 6, out: 7, hole: 8 } as const
const source = { value: 0, register: 1, hole: 2 } as const
const when = { main: 0, undo: 1, always: 2 } as const
const flag = { commits: 1, report: 2, answers: 4, identifies: 8, home: 16 } as const

const numbers = new Map(Object.keys(calls).map((name, i) => [name as CallName, i]))

/** A growing buffer of words. One is enough: encoding is synchronous. */
class Writer {
  #words = new Uint32Array(16 * 1024)
  #bytes = Buffer.from(this.#words.buffer)
  #length = 0

  reset(): void {
    this.#length = 0
  }

  get words(): number {
    return this.#length
  }

  /** The memory that was written to; valid until the next reset. */
  get memory(): Uint8Array {
    return this.#bytes
  }

  take(): Uint8Array {
    return Uint8Array.prototype.slice.call(this.#bytes, 0, this.#length * 4)
  }

  word(value: number): void {
    if (this.#length === this.#words.length) this.#grow(1)
    this.#words[this.#length++] = value
  }

  /** Writes over a word. */
  patch(at: number, value: number): void {
    this.#words[at] = value
  }

  long(value: number | bigint): void {
    if (typeof value === 'number' && Number.isSafeInteger(value)) {
      this.word(value >>> 0)
      this.word(Math.floor(value / 0x1_0000_0000) >>> 0)
      return
    }
    const big = BigInt.asUintN(64, BigInt(value))
    this.word(Number(big & 0xffff_ffffn))
    this.word(Number(big >> 32n))
  }

  /** A number as what fills a hole. */
  number(value: bigint): void {
    this.word(8)
    this.long(value)
    this.word(0)
  }

  bytes(value: Uint8Array): void {
    const words = (value.length >> 2) + 1
    this.word(value.length)
    if (this.#length + words > this.#words.length) this.#grow(words)
    this.#words[this.#length + words - 1] = 0
    this.#bytes.set(value, this.#length * 4)
    this.#length += words
  }

  text(value: string): void {
    const most = value.length * 3
    if (this.#length + 2 + (most >> 2) > this.#words.length) this.#grow(2 + (most >> 2))
    const written = this.#bytes.write(value, (this.#length + 1) * 4)
    this.#words[this.#length] = written
    this.#terminate(written)
  }

  /** The NUL after bytes that were written behind their size, and the padding. */
  #terminate(size: number): void {
    const end = (this.#length + 1) * 4 + size
    this.#length += 2 + (size >> 2)
    this.#bytes.fill(0, end, this.#length * 4)
  }

  append(words: Uint8Array): void {
    const count = words.length / 4
    if (this.#length + count > this.#words.length) this.#grow(count)
    this.#bytes.set(words, this.#length * 4)
    this.#length += count
  }

  #grow(words: number): void {
    const larger = new Uint32Array(Math.max(this.#words.length * 2, this.#length + words))
    larger.set(this.#words)
    this.#words = larger
    this.#bytes = Buffer.from(larger.buffer)
  }
}

const writer = new Writer()
const fragments = new WeakMap<Fragment, Uint8Array>()

/** Encodes the steps of a fragment once; the bytes are kept as long as the fragment is. */
export function encodeFragment(fragment: Fragment): Uint8Array {
  let bytes = fragments.get(fragment)
  if (bytes === undefined) {
    writer.reset()
    for (const step of fragment) {
      if (step.ifDone) throw new Error(`${step.call}: a step of a shared fragment depends on no other`)
      writeStep(step, none)
    }
    bytes = writer.take()
    fragments.set(fragment, bytes)
  }
  return bytes
}

/** The program of a plan. */
export function encode(plan: Plan): Uint8Array {
  const cached = plan.parts.map((part) => fragments.get(part))
  const indices = indexConditions(plan)
  writer.reset()
  writer.word(magic)
  writer.word(version)
  writer.word(plan.slots)
  writer.word(plan.registers)
  writer.word(plan.holes)
  writer.word(plan.parts.reduce((sum, part) => sum + part.length, 0))
  writer.word(plan.inputs.length)
  for (const [slot, fd] of plan.inputs) {
    writer.word(slot.slot)
    writer.word(fd)
  }
  writer.word(plan.outputs.length)
  for (const slot of plan.outputs) writer.word(slot.slot)
  writer.text(plan.title)
  plan.parts.forEach((part, i) => {
    const bytes = cached[i]
    if (bytes !== undefined) writer.append(bytes)
    else for (const step of part) writeStep(step, conditionOf(step, indices))
  })
  return writer.take()
}

/** What fills the holes of one run: words in a memory that is valid until something else is encoded. */
export function encodeFills(fills: readonly Fill[]): { memory: Uint8Array; words: number } {
  writer.reset()
  for (const fill of fills) writeFill(fill)
  return writer
}

function writeFill(fill: Fill): void {
  if (typeof fill === 'string') writer.text(fill)
  else if (typeof fill === 'bigint') writer.number(fill)
  else writer.bytes(fill)
}

/**
 * Several runs of programs that the addon keeps, one after the other: job, program, words of the fills, the fills.
 */
export function encodeRuns(
  runs: readonly { readonly job: number; readonly program: number; readonly fills: readonly Fill[] }[],
): { memory: Uint8Array; words: number } {
  writer.reset()
  for (const { job, program, fills } of runs) {
    writer.word(job)
    writer.word(program)
    const at = writer.words
    writer.word(0)
    for (const fill of fills) writeFill(fill)
    writer.patch(at, writer.words - at - 1)
  }
  return writer
}

/** Where the steps stand whose success others depend on. */
function indexConditions(plan: Plan): Map<Step, number> {
  const wanted = new Set<Step>()
  for (const part of plan.parts) {
    if (fragments.has(part)) continue
    for (const step of part) if (step.ifDone) wanted.add(step.ifDone)
  }
  const indices = new Map<Step, number>()
  const look = (isEncoded: boolean) => {
    let base = 0
    for (const part of plan.parts) {
      if (fragments.has(part) === isEncoded) {
        part.forEach((step, i) => {
          if (wanted.has(step)) indices.set(step, base + i)
        })
      }
      base += part.length
    }
  }
  if (wanted.size > 0) look(false)
  // hardly ever: nothing is known of an encoded fragment but its bytes and its steps, which are many
  if (indices.size < wanted.size) look(true)
  return indices
}

function conditionOf({ call, ifDone }: Step, indices: ReadonlyMap<Step, number>): number {
  if (ifDone === undefined) return none
  const index = indices.get(ifDone)
  if (index === undefined) throw new Error(`${call} depends on a step that is not in the plan`)
  return index
}

function writeStep(step: Step, ifDone: number): void {
  const flags =
    (step.commits ? flag.commits : 0) |
    (step.report ? flag.report : 0) |
    (step.answers ? flag.answers : 0) |
    (step.identifies ? flag.identifies : 0) |
    (step.home ? flag.home : 0)
  writer.word(numbers.get(step.call)! | (when[step.when ?? 'main'] << 8) | (flags << 16))
  writer.word((step.out ? step.out.slot : none) | (ifDone << 16))
  const tolerate = step.tolerate ?? []
  writer.word(tolerate.length)
  for (const errno of tolerate) writer.word(errno)
  const expect = step.expect ?? []
  writer.word(expect.length)
  for (const expectation of expect) writeExpectation(expectation)
  const remember = step.remember ?? []
  writer.word(remember.length)
  for (const { field, register } of remember) writeCheck(field, undefined, register.register, source.register)
  const signature = calls[step.call]
  if (step.args.length !== signature.length) throw new Error(`${step.call}: ${step.args.length} arguments`)
  step.args.forEach((arg, i) => {
    writeArg(arg, signature[i]!)
  })
}

function writeExpectation({ field, mask, value }: Expectation): void {
  if (typeof value === 'bigint') writeCheck(field, mask, value, source.value)
  else if (isHole(value)) writeCheck(field, mask, value.hole, source.hole)
  else writeCheck(field, mask, value.register, source.register)
}

function writeCheck(field: Field, mask: bigint | undefined, value: number | bigint, from: number): void {
  writer.word(field.offset | (field.width << 16) | (from << 24))
  writer.long(mask ?? -1n)
  writer.long(value)
}

function writeArg(arg: Arg, letter: string): void {
  switch (arg.kind) {
    case 'fd':
      writeFd(arg.fd)
      break
    case 'int':
      if (isHole(arg.value)) {
        writeHole(arg.value)
        break
      }
      writer.word(kind.integer)
      if (letter === 'v') writer.word(Number(arg.value))
      else writer.long(arg.value)
      break
    case 'null':
      writer.word(kind.null)
      break
    case 'text':
      writeText(arg.text)
      break
    case 'bytes':
      writer.word(kind.bytes)
      writer.bytes(arg.bytes)
      break
    case 'mount_attr':
      writer.word(kind.attr)
      writer.long(arg.attr.set)
      writer.long(arg.attr.clear)
      writer.long(arg.attr.propagation)
      if (arg.attr.userns) writeFd(arg.attr.userns)
      else writer.word(kind.null)
      break
    case 'open_how':
      writer.word(kind.how)
      writer.long(arg.flags)
      writer.long(arg.mode)
      writer.long(arg.resolve)
      break
    case 'out':
      writer.word(kind.out)
  }
}

function writeFd(fd: FdArg): void {
  if (isSlot(fd)) {
    writer.word(kind.slot)
    writer.word(fd.slot)
  } else {
    // a hole where an fd should be would be encoded as 0, which is somebody's
    if (!Number.isInteger(fd.fd)) throw new TypeError(`no fd for ${fd.name}: ${fd.fd}`)
    writer.word(kind.integer)
    writer.word(fd.fd)
  }
}

function writeHole({ hole }: Hole): void {
  writer.word(kind.hole)
  writer.word(hole)
}

function writeText(text: Text): void {
  if (isHole(text)) {
    writeHole(text)
    return
  }
  if (typeof text === 'string' || text instanceof Uint8Array) {
    writer.word(kind.bytes)
    if (typeof text === 'string') writer.text(text)
    else writer.bytes(text)
    return
  }
  writer.word(kind.pieces)
  writer.word(text.length)
  for (const part of text) {
    if (typeof part === 'string' || part instanceof Uint8Array || isHole(part)) writeText(part)
    else writeFd(part)
  }
}
