/**
 * The runner of commands on another architecture: the guest is one, with programs of its own over the host's root, and
 * what passes through on this machine's own (run.test.ts) does there.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root, run } from '../support/child.js'
import { privileged } from '../support/needs.js'

t.test('arm64: what the guest is, and what goes through', { ...privileged, timeout: 600_000 }, async (t) => {
  const file = join(root, 'must-not-be-there')
  const script = `
    uname -sm; id -u; pwd
    for each in bash mount mkfs.ext4 python3 node; do
      head -c 20 "$(command -v "$each")" | od -An -tu2 -j 18
    done
    cat package.json
    touch '${file}' && echo it seems to be written
    exit 47`
  const { status, stdout, stderr } = await run(
    join(root, 'test/kernels/run'),
    ['6.12-arm64', '--', 'bash', '-c', script],
    { cwd: root, timeout: 590_000 },
  )
  t.equal(status, 47, stderr)
  const [system, id, cwd, ...rest] = stdout.split('\n')
  t.equal(system, 'Linux aarch64')
  t.equal(id, '0')
  t.equal(`${cwd}/`, root)
  // e_machine of an ELF file: EM_AARCH64
  t.same(rest.splice(0, 5).map(Number), [183, 183, 183, 183, 183])
  const text = readFileSync(join(root, 'package.json'), 'utf8')
  t.equal(rest.join('\n'), `${text}it seems to be written\n`)
  t.notOk(existsSync(file), 'the host’s root is as it was')
})
