/**
 * The process that measures: one trial, one contender, one round, and nothing else in it.
 *
 * It reads `{ subject, task, directory, milliseconds }` as JSON from stdin and answers with what was measured, as
 * JSON on stdout. It has a mount namespace of its own (rounds.mjs) and a tmpfs of its own in it.
 */
import { text } from 'node:stream/consumers'
import { findSubject } from './subjects/index.mjs'
import { Scratch } from './support/scratch.mjs'

const { subject, task, directory, milliseconds } = JSON.parse(await text(process.stdin))
const scratch = Scratch.open(`${directory}/trial`)
const measured = await findSubject(subject).run(task, { scratch, directory, milliseconds })
process.stdout.write(JSON.stringify(measured))
