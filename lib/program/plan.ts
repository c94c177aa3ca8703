/**
 * A plan: steps in order, with the slots and registers they share, and what is to be said about them.
 *
 * Plans are plain data made by pure functions. `PlanBuilder` hands out slots and keeps the three
 * kinds of steps apart: the order of a plan is main steps, then undo steps, then always steps, whatever
 * order they were added in, so that what a step needs to have undone can be written beside it.
 *
 * `Fragment`s are runs of steps that many plans share (the layers of an open stack): they are encoded
 * once and copied as bytes afterwards.
 */
import { type Cost, costOf } from './cost.js'
import { renderPlan } from './explain.js'
import type { FdArg, HeldFd, Hole, Register, Slot, Step } from './step.js'

/** Steps that several plans share. They may use slots; no step of them depends on another's success. */
export type Fragment = readonly Step[]

export interface PlanParts {
  /** what runs: a rung's name, or what it is done for (`unmount`, `collect`) */
  readonly title: string
  readonly parts: readonly Fragment[]
  readonly slots: number
  readonly registers: number
  readonly holes: number
  readonly inputs: readonly (readonly [Slot, number])[]
  readonly outputs: readonly Slot[]
  readonly notes: readonly string[]
}

/**
 * What will be done, before it is done: the system calls in order, what they cost, and what the chosen
 * rung cannot promise. `String(plan)` prints it.
 */
export class Plan implements PlanParts {
  /** the rung's name, or what it is done for: `open layers`, `discard` */
  readonly title: string
  /** @internal */
  readonly parts: readonly Fragment[]
  /** @internal */
  readonly slots: number
  /** @internal */
  readonly registers: number
  /** @internal what each run has to fill in */
  readonly holes: number
  /** @internal */
  readonly inputs: readonly (readonly [Slot, number])[]
  /** @internal */
  readonly outputs: readonly Slot[]
  /** what the rung cannot promise, and what was passed over; one sentence each */
  readonly notes: readonly string[]

  constructor(parts: PlanParts) {
    this.title = parts.title
    this.parts = parts.parts
    this.slots = parts.slots
    this.registers = parts.registers
    this.holes = parts.holes
    this.inputs = parts.inputs
    this.outputs = parts.outputs
    this.notes = parts.notes
  }

  /** Every step in the order in which a program without failures makes the calls. */
  get steps(): readonly Step[] {
    return this.parts.flat()
  }

  /** The step with this index, such as the `step` of a MountError; undefined past the end. */
  at(index: number): Step | undefined {
    let rest = index
    for (const part of this.parts) {
      if (rest < part.length) return part[rest]
      rest -= part.length
    }
    return undefined
  }

  #indices: Map<Step, number> | undefined

  /** @internal Where a step of this plan stands, or -1. */
  indexOf(step: Step): number {
    this.#indices ??= new Map(this.steps.map((each, i) => [each, i]))
    return this.#indices.get(step) ?? -1
  }

  /** What a successful run costs: counted from the steps. */
  get cost(): Cost {
    return costOf([this])
  }

  toString(): string {
    return renderPlan(this)
  }

  toJSON(): object {
    return { title: this.title, cost: this.cost, notes: this.notes, calls: this.toString().split('\n') }
  }
}

export class PlanBuilder {
  readonly #title: string
  readonly #fragments: Fragment[] = []
  #main: Step[] = []
  readonly #undo: Step[] = []
  readonly #always: Step[] = []
  readonly #inputs: (readonly [Slot, number])[] = []
  readonly #outputs: Slot[] = []
  readonly #notes: string[] = []
  #slots: number
  #registers: number
  #holes = 0

  /** `slots` and `registers`: how many the fragments to be added have taken already. */
  constructor(title: string, slots = 0, registers = 0) {
    this.#title = title
    this.#slots = slots
    this.#registers = registers
  }

  slot(name: string): Slot {
    return { slot: this.#slots++, name }
  }

  /** What the runs of this plan differ in; each is filled in the order of their making. */
  hole(name: string): Hole {
    return { hole: this.#holes++, name }
  }

  /** There are so many holes, which were made elsewhere. */
  holes(count: number): this {
    this.#holes = count
    return this
  }

  register(name: string): Register {
    return { register: this.#registers++, name }
  }

  /** A slot that holds this fd from the start; the program takes it over. */
  input(name: string, fd: number, closes?: Slot['closes']): Slot {
    const slot: Slot = { slot: this.#slots++, name, closes }
    this.#inputs.push([slot, fd])
    return slot
  }

  /** The fd in this slot is handed out when the program succeeds. */
  output(slot: Slot): Slot {
    this.#outputs.push(slot)
    return slot
  }

  add(...steps: Step[]): this {
    this.#main.push(...steps)
    return this
  }

  fragment(fragment: Fragment): this {
    this.#flush()
    this.#fragments.push(fragment)
    return this
  }

  /** To be run after a failure, if `step` had done its work; the last one first. */
  undo(step: Step, ...by: Step[]): this {
    this.#undo.unshift(...by.map((s): Step => ({ ...s, when: 'undo', ifDone: step })))
    return this
  }

  /** To be run in this order after a failure, if `step` had done its work; each only if the one before it did. */
  undoInTurn(step: Step, ...by: Step[]): this {
    const steps: Step[] = []
    for (const s of by) steps.push({ ...s, when: 'undo', ifDone: steps.at(-1) ?? step })
    return this.undoBy(...steps)
  }

  /** Steps that take back in an order of their own, each with its condition. */
  undoBy(...steps: Step[]): this {
    this.#undo.unshift(...steps)
    return this
  }

  /** To be run at the end in every case; what was added last runs first. */
  always(...steps: Step[]): this {
    // one that says so itself stays the same, for others to depend on
    this.#always.unshift(...steps.map((s): Step => (s.when === 'always' ? s : { ...s, when: 'always' })))
    return this
  }

  note(...notes: readonly string[]): this {
    for (const note of notes) if (!this.#notes.includes(note)) this.#notes.push(note)
    return this
  }

  build(): Plan {
    this.#flush()
    const tail = [...this.#undo, ...this.#always]
    return new Plan({
      title: this.#title,
      parts: tail.length > 0 ? [...this.#fragments, tail] : this.#fragments,
      slots: this.#slots,
      registers: this.#registers,
      holes: this.#holes,
      inputs: this.#inputs,
      outputs: this.#outputs,
      notes: this.#notes,
    })
  }

  #flush(): void {
    if (this.#main.length > 0) this.#fragments.push(this.#main)
    this.#main = []
  }
}

export const held = (fd: number, name: string): HeldFd => ({ fd, name })
/** The working directory of the thread that runs the program; only for paths that are absolute. */
export const cwd: FdArg = held(-100, 'AT_FDCWD')
