/**
 * The process that is killed: `program.mjs LIFE PLACE`, the place as JSON. It prints a line `ready` when its threads are there
 * and everything that is not to be swept is done, waits for a byte, leads its life, and prints each handle as a
 * line of JSON when its mount can be seen.
 *
 * One thread a pool, so that each call has its place in the order of its thread's.
 */
import { readSync, writeSync } from 'node:fs'
import { Mounter } from '../../dist/index.js'
import { lives } from './lives.mjs'

const [life, json] = process.argv.slice(2)
const place = JSON.parse(json)
const mounter = new Mounter({ rung: place.rung, threads: 1, reapers: 1 })
/** At once, for it may be the last thing it does. */
const say = (line) => writeSync(1, `${line}\n`)
const made = (handle) => say(JSON.stringify(handle))

void mounter.features
await mounter.ready()
const rest = await lives[life]({ mounter, place, made })
await mounter.idle()
say('ready')
readSync(0, Buffer.alloc(1))
await rest()
