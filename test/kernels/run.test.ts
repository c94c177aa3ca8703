/**
 * The runner of commands on other kernels: bytes and exit status pass through, the host's root cannot be written to,
 * and nothing is left of a run, however it ends.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { environment, root, run } from '../support/child.js'
import { privileged } from '../support/needs.js'

const runner = join(root, 'test/kernels/run')
const temporary = () => readdirSync(tmpdir()).filter((name) => name.startsWith('overlayfd-kernel-'))

/** Processes that have the path of a run's directory in their arguments: QEMU, virtiofsd, cat. */
const processesOf = (dir: string): string[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(dir)
      } catch {
        return false // it has ended
      }
    })

const none = async (dir: string): Promise<string[]> => {
  for (let i = 0; i < 100 && processesOf(dir).length > 0; i++) await sleep(100)
  return processesOf(dir)
}

t.test('what goes through, and what does not', { ...privileged, timeout: 600_000 }, async (t) => {
  const before = temporary()
  const file = join(root, 'must-not-be-there')
  const script = `
    uname -r; id -u; pwd
    printf '\\001\\r\\n\\t\\377\\n'; printf '%s\\n' "$1" "$OVERLAYFD_TEST" >/dev/stderr
    cat
    grep -c overlay /proc/filesystems
    touch '${file}' && echo it seems to be written
    mkdir /run/host
    mount -t virtiofs host /run/host && mount -o remount,rw /run/host && echo mounted
    touch '/run/host${file}' || echo refused
    exit 47`
  const { status, stdout, stderr } = await run(
    runner,
    ['6.12', '--', 'bash', '-c', script, '-', "two  words' $x"],
    {
      cwd: root,
      timeout: 590_000,
      env: { OVERLAYFD_TEST: 'a\nb' },
    },
  )
  t.equal(status, 47, stderr)
  const [release, id, cwd, ...rest] = stdout.split('\n')
  t.match(release, /^6\.12\./)
  t.equal(id, '0')
  t.equal(`${cwd}/`, root)
  const text = rest.join('\n')
  t.ok(text.startsWith("\x01\r\n\t\ufffd\ntwo  words' $x\na\nb\n1\nit seems to be written\n"), text)
  t.match(text, /mounted\n.*Read-only file system\nrefused\n$/)
  t.notOk(existsSync(file), 'the host’s root is as it was')
  t.same(temporary(), before)
})

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  t.test(`nothing is left after ${signal}`, { ...privileged, timeout: 600_000 }, async (t) => {
    const before = temporary()
    const child = spawn(runner, ['6.12', '--', 'sh', '-c', 'echo here; sleep 1000'], {
      cwd: root,
      env: environment(),
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    const [name] = temporary().filter((each) => !before.includes(each))
    const dir = join(tmpdir(), name as string)
    t.ok(processesOf(dir).length > 1, 'QEMU and virtiofsd run')
    child.kill(signal)
    const [status] = await once(child, 'exit')
    t.equal(status, signal === 'SIGTERM' ? 143 : 130)
    t.same(await none(dir), [])
    t.notOk(existsSync(dir))
  })
}

t.test('time is up', { ...privileged, timeout: 600_000 }, async (t) => {
  const before = temporary()
  const { status, stderr } = await run(runner, ['6.12', '--', 'true'], {
    cwd: root,
    env: { KERNEL_TIMEOUT: '1' },
  })
  t.equal(status, 124)
  t.match(stderr, /ended without a status/)
  t.same(temporary(), before)
})

t.test('wrong arguments', { ...privileged, timeout: 600_000 }, async (t) => {
  t.equal((await run(runner, ['6.12', 'true'])).status, 2)
  const { status, stderr } = await run(runner, ['5.0', '--', 'true'])
  t.equal(status, 125)
  t.match(stderr, /no kernel 5\.0/)
  const foreign = await run(runner, ['6.12-alpha', '--', 'true'])
  t.equal(foreign.status, 125)
  t.match(foreign.stderr, /no architecture alpha/)
})
