/**
 * The supervisor (test/faults/supervisor.c) as a program below it asks for one thing: to hold a thread at a call of its. What
 * it says is read by one of libuv's threads, so that the event loop goes on meanwhile.
 */
import { read, readSync, writeSync } from 'node:fs'

const socket = Number(process.env.OVERLAYFD_FAULTS)
const say = (text) => writeSync(socket, text)

const next = () =>
  new Promise((resolve, reject) => {
    const buffer = Buffer.alloc(1 << 20)
    read(socket, buffer, 0, buffer.length, null, (error, size) =>
      error ? reject(error) : resolve(buffer.toString('latin1', 0, size).trim()),
    )
  })

/**
 * Has the point's thread held at its call; `isHeld` resolves when it is. Nothing is held without a point.
 *
 * @param {{ thread: string, index: number, call: string }} [point]
 */
export const arm = async (point) => {
  say(point ? `arm ${point.thread} ${point.index} ${point.call} hold` : 'arm')
  const said = await next()
  if (said !== 'armed') throw new Error(`supervisor: ${said}`)
  const first = next()
  return {
    isHeld: first.then((text) => text === 'held'),
    /** the calls of owned threads since then; nothing is held any more */
    async report() {
      say('report')
      let text = await first
      if (text === 'held') text = await next()
      return text.split('\n').filter((line) => line !== '')
    },
  }
}

/** What is held goes on when that thread waits for it with a time limit, as who ends does. */
export const releaseFor = (tid) => say(`release ${tid}`)

/** What is held goes on now. */
export const release = () => releaseFor(0)

/** What is held goes on now; blocks until its thread has done all that it has to do. */
export const passNow = () => {
  say('pass')
  const buffer = Buffer.alloc(64)
  const said = buffer.toString('latin1', 0, readSync(socket, buffer)).trim()
  if (said !== 'asleep') throw new Error(`supervisor: ${said}`)
}
