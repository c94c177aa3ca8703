/**
 * What one mount of 50 idmapped layers takes, awaited one by one and in the Sync form, beside the C floor
 * (floor.c, variants b k m n) in the same run: rounds in turns, medians in microseconds.
 *
 *   unshare -m --propagation private node bench/compose.mjs [layers] [mounts a round] [rounds]
 */
import { execFileSync } from 'node:child_process'
import { chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, release, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LayerStack, Mounter } from '../dist/index.js'

const [layers = 50, mounts = 200, rounds = 5] = process.argv.slice(2).map(Number)
const here = dirname(fileURLToPath(import.meta.url))
const scratch = mkdtempSync(join(tmpdir(), 'overlayfd-bench-'))
const samples = new Map()
const add = (name, value) => samples.set(name, [...(samples.get(name) ?? []), value])
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1]
const now = () => Number(process.hrtime.bigint()) / 1e3
const range = (outside) => [{ inside: 0, outside, length: 65_536 }]
const mapping = (outside) => ({ uid: range(outside), gid: range(outside) })

const floor = (binary) => {
  const args = ['-l', String(layers), '-v', 'bkmn', '-n', String(mounts), '-r', '1']
  const lines = execFileSync(binary, args, { cwd: scratch, encoding: 'utf8' }).split('\n').slice(2)
  for (const [variant, , , compose] of lines.filter(Boolean).map((line) => line.trim().split(/\s+/))) {
    add(`floor ${variant}`, Number(compose))
  }
}

const ours = async (stack, at) => {
  for (const [name, options] of [
    ['warm', () => at],
    ['own mapping', (i) => ({ ...at, idmap: mapping(200_000 + i) })],
  ]) {
    for (let i = 0; i < mounts; i++) {
      const begin = now()
      const rootfs = stack.mountSync(options(i))
      add(`${name}, Sync`, now() - begin)
      rootfs.unmountSync()
    }
    for (let i = 0; i < mounts; i++) {
      const begin = now()
      const rootfs = await stack.mount(options(i))
      add(`${name}, awaited`, now() - begin)
      await rootfs.unmount()
    }
  }
}

execFileSync('mount', ['-n', '-t', 'tmpfs', 'bench', scratch])
try {
  const binary = join(scratch, 'floor')
  execFileSync('cc', ['-O2', '-pthread', '-o', binary, join(here, 'floor.c')])
  const lowerdir = Array.from({ length: layers }, (_, i) => join(scratch, 'layers', String(i), 'fs'))
  for (const dir of lowerdir) mkdirSync(dir, { recursive: true })
  const at = {}
  for (const name of ['upperdir', 'workdir', 'target']) {
    at[name] = join(scratch, name)
    mkdirSync(at[name])
    chownSync(at[name], 100_000, 100_000)
  }
  const stack = await LayerStack.open({ lowerdir, idmap: mapping(100_000) })
  await ours(stack, at)
  samples.clear()
  for (let round = 0; round < rounds; round++) {
    floor(binary)
    await ours(stack, at)
  }
  await stack.close()
  await Mounter.default.close()
} finally {
  execFileSync('umount', ['-n', scratch])
  rmSync(scratch, { recursive: true })
}
console.log(
  `Linux ${release()}, ${availableParallelism()} CPUs, Node ${process.version}; ${layers} layers, tmpfs`,
)
console.log(`median of ${rounds} rounds × ${mounts} mounts, microseconds to compose one:`)
for (const [name, values] of samples)
  console.log(`${name.padEnd(24)}${median(values).toFixed(1).padStart(8)}`)
