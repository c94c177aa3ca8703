/**
 * The process, and the workers in it, that end early: while one of the owned threads is held at one of its calls by the
 * supervisor below which this runs. Plain JavaScript over dist/, for every version of Node.
 *
 *   program.mjs workers PLACE PICK         sweeps the ends of workers, one worker after the other
 *   program.mjs process PLACE POINT END    ends itself, at one point
 *
 * PLACE, PICK (which cases, of how many) and POINT are JSON. A line of JSON is printed for the points, and for each case.
 */
import { readdirSync, readFileSync, readlinkSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { Mounter } from '../../dist/index.js'
import { lives } from '../kills/lives.mjs'
import { afterwards, otherMounts, prepare } from './place.mjs'
import { arm, passNow, release, releaseFor } from './supervisor.mjs'

/** At once, for it may be the last thing that is done. */
const say = (what) => writeSync(1, `${JSON.stringify(what)}\n`)

const ready = async (place) => {
  const mounter = new Mounter({ rung: place.rung, threads: 1, reapers: 1 })
  void mounter.features
  await mounter.ready()
  const rest = await lives[place.life]({ mounter, place, made: () => undefined })
  await mounter.idle()
  return rest
}

/**
 * Ways to end from within. An end that is late has the thread finish first: what it answers is there then, and nobody
 * has seen it.
 */
const ends = {
  exit(tid) {
    releaseFor(tid)
    process.exit(7)
  },
  throw(tid) {
    releaseFor(tid)
    setImmediate(() => {
      throw new Error('thrown on purpose')
    })
  },
  late() {
    passNow()
    process.exit(5)
  },
}

const inProcess = async (place, point, end) => {
  const rest = await ready(place)
  const hold = await arm(point)
  const led = rest().then(() => false)
  led.catch(() => undefined)
  if (await Promise.race([hold.isHeld, led])) {
    say('held')
    ends[end](process.pid)
  } else {
    await hold.report()
  }
}

const inWorker = async (place) => {
  const tid = readlinkSync('/proc/thread-self').split('/').at(-1)
  // kept to the end, or what it holds is collected, with a warning
  globalThis.rest = await ready(place)
  parentPort.on('message', (what) => {
    if (what !== 'go') return ends[what](tid)
    globalThis.led = globalThis.rest().then(
      () => parentPort.postMessage({ said: 'done' }),
      // what an end makes of it is seen by nobody
      (error) => parentPort.postMessage({ said: 'done', error: String(error) }),
    )
  })
  parentPort.postMessage({ said: 'ready', tid })
}

/** What a worker says, and how it ended. */
const startWorker = (place) => {
  const worker = new Worker(new URL(import.meta.url), { workerData: place })
  const heard = {}
  const waiting = {}
  worker.on('message', (message) => {
    heard[message.said] = message
    waiting[message.said]?.(message)
  })
  let error
  worker.on('error', (thrown) => {
    error = thrown
  })
  const exit = new Promise((resolve) => worker.once('exit', (code) => resolve({ code, error })))
  const says = (what) =>
    new Promise((resolve) => {
      if (heard[what]) resolve(heard[what])
      else waiting[what] = resolve
    })
  return { worker, exit, says }
}

/** What every worker opens and closes, and node when it likes. */
const isNodes = (link) => /^(pipe|socket):|^anon_inode:\[(eventfd|eventpoll|io_uring)\]/.test(link)

const linkOf = (path) => {
  try {
    return readlinkSync(path)
  } catch {
    // that of the listing itself
    return 'socket:'
  }
}
const openFds = () =>
  readdirSync('/proc/self/fd')
    .map((fd) => linkOf(`/proc/self/fd/${fd}`))
    .filter((link) => !isNodes(link))
    .sort()

const nameOf = (tid) => {
  try {
    return readFileSync(`/proc/self/task/${tid}/comm`, 'utf8').trim()
  } catch {
    return ''
  }
}
const ownedThreads = () =>
  readdirSync('/proc/self/task')
    .map(nameOf)
    .filter((name) => name.startsWith('ofd-'))

const settled = async (look) => {
  for (let tries = 0; tries < 500 && look() !== ''; tries++) await sleep(2)
  return look()
}

const workerEnds = ['terminate', 'exit', 'throw', 'late']
const codes = { terminate: 1, exit: 7, throw: 1, late: 5 }

/** Ends one worker at a point, or lets it live to its end; what is wrong. */
const endWorker = async (place, point, end) => {
  prepare(place)
  const { worker, exit, says } = startWorker(place)
  const { tid } = await Promise.race([says('ready'), exit])
  const wrong = []
  const hold = await arm(point)
  worker.postMessage('go')
  const done = says('done').then(({ error }) => {
    if (error !== undefined) wrong.push(error)
    return false
  })
  const early = exit.then(({ error }) => {
    throw error ?? new Error('the worker ended by itself')
  })
  early.catch(() => undefined)
  const isHeld = await Promise.race([hold.isHeld, done, early])
  if (!isHeld) {
    const calls = await hold.report()
    await worker.terminate()
    return { calls, wrong, isMissed: point !== undefined }
  }
  if (point.isBlocking) {
    const ending = worker.terminate()
    release()
    await ending
  } else if (end === 'terminate') {
    releaseFor(tid)
    await worker.terminate()
  } else {
    worker.postMessage(end)
  }
  const { code, error } = await exit
  if (code !== codes[end]) wrong.push(`ended with ${code}`)
  if ((end === 'throw') !== (error?.message === 'thrown on purpose')) wrong.push(`error: ${error}`)
  await hold.report()
  return { calls: [], wrong, isMissed: false }
}

/** The calls by which a thread gets ready; its maker waits for them, and so cannot end by itself. */
const GETS_READY = ['unshare', 'chdir']

/** Points: the n-th call of that name that threads of that name make. What is collected in the background has no order. */
const pointsOf = (calls) => {
  const counted = {}
  const made = {}
  return calls.map((line) => {
    const [thread, tid, call] = line.split(' ')
    const key = `${thread} ${call}`
    const index = counted[key] ?? 0
    counted[key] = index + 1
    made[tid] = [...(made[tid] ?? []), call]
    const isBlocking = made[tid].join() === GETS_READY.slice(0, made[tid].length).join()
    return { thread, index, call, isBlocking }
  })
}

const sweepWorkers = async (place, { stride, offset }) => {
  const whole = await endWorker(place)
  const points = pointsOf(whole.calls)
  const first = await afterwards(place)
  say({ points, wrong: [...whole.wrong, ...first.wrong] })
  const [fds, table] = [openFds(), otherMounts(place)]
  const isLeft = () => {
    const left = openFds()
    for (const link of fds) left.splice(left.indexOf(link), left.includes(link) ? 1 : 0)
    return [...left, ...ownedThreads()].join(', ')
  }
  for (const [k, point] of points.entries()) {
    for (const [e, end] of workerEnds.entries()) {
      if ((k * workerEnds.length + e) % stride !== offset) continue
      if (point.isBlocking && end !== 'terminate') continue
      let ended = await endWorker(place, point, end)
      for (let tries = 0; ended.isMissed && tries < 3; tries++) {
        await afterwards(place)
        ended = await endWorker(place, point, end)
      }
      const { wrong, isMissed } = ended
      if (isMissed) wrong.push('was not met')
      const left = await settled(isLeft)
      if (left !== '') wrong.push(`left: ${left}`)
      const after = await afterwards(place)
      wrong.push(...after.wrong)
      if (otherMounts(place) !== table) wrong.push('other mounts are there')
      say({ point, end, mounted: after.mounted, wrong })
    }
  }
}

if (!isMainThread) {
  await inWorker(workerData)
} else {
  const [mode, place, pick, end] = process.argv.slice(2)
  if (mode === 'workers') await sweepWorkers(JSON.parse(place), JSON.parse(pick))
  else await inProcess(JSON.parse(place), JSON.parse(pick), end)
}
