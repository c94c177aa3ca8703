/**
 * Where smoke.mjs mounts: a tmpfs with layers in the mount namespace that it was started in, containers on it, and
 * programs of the same runtime that mount there and end. Undone by `remove`.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { chownSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const LAYERS = 8
/** on the host, of id 0 in a container */
export const FIRST_ID = 100000
const stagesProgram = fileURLToPath(new URL('../lifecycle/stages.mjs', import.meta.url))

/** The name to print, and what the runtime needs before a script. */
export const [runtime, ...runtimeArguments] = process.argv.slice(2)

export const dir = mkdtempSync(join(tmpdir(), 'overlayfd-smoke-'))

const made = (...names) => {
  mkdirSync(join(dir, ...names), { recursive: true })
  return join(dir, ...names)
}

export const prepare = () => {
  execFileSync('mount', ['-n', '-t', 'tmpfs', '-o', 'mode=755', 'overlayfd-smoke', dir])
  for (let i = 0; i < LAYERS; i++) {
    const layer = made('layers', String(i), 'fs')
    for (const file of [`only-${i}`, 'each']) writeFileSync(join(layer, file), String(i))
  }
  made('containers')
}

export const remove = () => {
  execFileSync('umount', ['-n', '-l', dir])
  rmdirSync(dir)
}

let containers = 0
export const container = () => {
  const name = String(containers++)
  const [upperdir, workdir, target] = ['upper', 'work', 'rootfs'].map((part) =>
    made('containers', name, part),
  )
  chownSync(upperdir, FIRST_ID, FIRST_ID)
  return { upperdir, workdir, target }
}

export const lowerdir = () => Array.from({ length: LAYERS }, (_, i) => join(dir, 'layers', String(i), 'fs'))

/** Lines of mountinfo. */
export const mountedBelow = () =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.split(' ')[4]?.startsWith(`${dir}/`))

/** Runs stages.mjs under this runtime; kills it when it takes too long. */
const ended = (names, ending, before = runtimeArguments) =>
  new Promise((resolve, reject) => {
    const args = [...before, stagesProgram, dir, names, ending]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    const text = { stdout: '', stderr: '' }
    for (const stream of ['stdout', 'stderr']) child[stream].on('data', (chunk) => (text[stream] += chunk))
    const timer = setTimeout(() => child.kill('SIGKILL'), 30_000)
    child.once('error', reject)
    child.once('close', (status, signal) => {
      clearTimeout(timer)
      resolve({ status, signal, ...text })
    })
  })

/** Takes away what a child was allowed to leave: complete mounts at its targets. */
const clearTargets = () => {
  const targets = mountedBelow().map((line) => line.split(' ')[4])
  for (const target of targets) {
    assert.match(target, /\/rootfs$/)
    assert.equal(readFileSync(join(target, `only-${LAYERS - 1}`), 'utf8'), String(LAYERS - 1))
  }
  if (targets.length > 0) execFileSync('umount', ['-n', '-l', ...targets])
}

/** @returns what it printed */
export const endsWell = async (...how) => {
  const { status, signal, stderr, stdout } = await ended(...how)
  assert.deepEqual({ status, signal, stderr }, { status: 0, signal: null, stderr: '' })
  clearTargets()
  return stdout
}

export const terminates = async (names) => {
  const seen = JSON.parse(await endsWell(names, 'worker.terminate at random'))
  assert.equal(seen.after.length, seen.before, `open after the workers: ${seen.after.join(' ')}`)
}
