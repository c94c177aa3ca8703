/**
 * Jobs and how their results come back: the addon calls the dispatcher with the results of many.
 *
 * A thread that has a result wakes the event loop, which costs both of them more than a short program does. With many
 * programs under way the loop is woken once for several, and comes by itself after a millisecond for those that nobody
 * woke it for: what network drivers call interrupt moderation. With few under way each result wakes it.
 */
import { setTimeout } from 'node:timers'
import { binding } from '../binding.js'
import { decodeResult, type ProgramResult } from './result.js'

type Ended = (result: ProgramResult) => void

/**
 * Who is told the result of a job, by its number. No Map: one with entries that come and go is moved to a new table now
 * and then, and a table that has grown old keeps alive what was in it and all tables after it.
 */
const waiting: (Ended | undefined)[] = [undefined]
/** numbers that are to be used again */
const free: number[] = []
let awaited = 0

/** A number that no job has, from 1 on; to be given to `expect` or `giveBack`. */
export function nextJob(): number {
  return free.pop() ?? waiting.push(undefined) - 1
}

export function giveBack(job: number): void {
  free.push(job)
}

/** Says who is told the result of a job; valid until he returns. */
export function expect(job: number, ended: Ended): void {
  waiting[job] = ended
  awaited++
}

let listening = false

/** Results are awaited from now on. */
export function listen(): void {
  if (listening) return
  binding.setDispatcher(dispatch)
  listening = true
}

/** Of the memory that the addon writes results to. */
const views = new WeakMap<Uint8Array, DataView>()

export function viewOf(memory: Uint8Array): DataView {
  const view = views.get(memory) ?? new DataView(memory.buffer, memory.byteOffset, memory.byteLength)
  views.set(memory, view)
  return view
}

function dispatch(memory: Uint8Array, words: number): void {
  const view = viewOf(memory)
  for (let at = 0; at < words; ) {
    const result = decodeResult(view, at)
    at += result.words
    const { job } = result
    const ended = waiting[job]
    if (ended === undefined) continue
    waiting[job] = undefined
    free.push(job)
    awaited--
    ended(result)
  }
  hasCome = true
  moderate(wantedFor(awaited))
}

/** How many results the loop is woken for. */
let wakeFor = 1
/** since the timer was set */
let hasCome = false
let timer: NodeJS.Timeout | undefined

/** For so many jobs: a third to a sixth of them, so that the threads do not run dry meanwhile. */
function wantedFor(jobs: number): number {
  if (jobs < 12) return 1
  let wanted = 4
  while (wanted < 32 && jobs >= 6 * wanted) wanted *= 2
  return wanted
}

function moderate(wanted: number): void {
  if (wanted === wakeFor) return
  if (wakeFor === 1) comeSoon()
  wakeFor = wanted
  binding.wakeFor(wanted)
}

function comeSoon(): void {
  hasCome = false
  if (timer === undefined) timer = setTimeout(come, 1).unref()
  else timer.refresh()
}

function come(): void {
  if (wakeFor === 1) return
  binding.deliver()
  // they take long: whoever ends wakes
  if (!hasCome) moderate(1)
  else if (wakeFor > 1) comeSoon()
}
