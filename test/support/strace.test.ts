import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { programs } from './needs.js'
import { between, ofThread, parseStrace, straceModule, straceProgram } from './strace.js'

const lines = (...text: string[]) => parseStrace(text.join('\n'))

t.test('calls, arguments and results', async (t) => {
  const calls = lines(
    '7<node> close(3)                              = 0',
    '7<node> openat(AT_FDCWD, "/a) = b", O_RDONLY) = -1 ENOENT (No such file or directory)',
    '8<a b> getpid() = 7',
    '9 exit_group(0)                      = ?',
    '+++ exited with 0 +++',
    '7<node> --- SIGCHLD {si_signo=SIGCHLD} ---',
  )
  t.same(calls, [
    { tid: 7, thread: 'node', name: 'close', args: '3', result: '0', begun: 0, ended: 1 },
    {
      tid: 7,
      thread: 'node',
      name: 'openat',
      args: 'AT_FDCWD, "/a) = b", O_RDONLY',
      result: '-1 ENOENT (No such file or directory)',
      begun: 1,
      ended: 2,
    },
    { tid: 8, thread: 'a b', name: 'getpid', args: '', result: '7', begun: 2, ended: 3 },
    { tid: 9, thread: '', name: 'exit_group', args: '0', result: '?', begun: 3, ended: 4 },
  ])
})

t.test('a call that others interrupt stands where it began', async (t) => {
  const calls = lines(
    '7<node> fsmount(4, FSMOUNT_CLOEXEC, 0 <unfinished ...>',
    '8<node> close(3) = 0',
    '7<node> <... fsmount resumed>)  = 5',
    '8<node> futex(0x7f, FUTEX_WAIT <unfinished ...>',
  )
  t.same(
    calls.map(({ name, args, result }) => `${name}(${args}) = ${result}`),
    ['fsmount(4, FSMOUNT_CLOEXEC, 0) = 5', 'close(3) = 0', 'futex(0x7f, FUTEX_WAIT) = ?'],
  )
  t.same(
    calls.map(({ begun, ended }) => [begun, ended]),
    [
      [0, 2],
      [1, 2],
      [2, Number.POSITIVE_INFINITY],
    ],
  )
})

t.test('a thread has the name it had last', async (t) => {
  const rename = (name: string) => `8<node> prctl(PR_SET_NAME, "${name}") = 0`
  const cases: [name: string, text: string[]][] = [
    ['as strace says', ['8<node> close(3) = 0', '8<ofd-reap> close(4) = 0']],
    ['as it says itself, of which strace takes no note', [rename('ofd-reap'), '8<node> close(3) = 0']],
    ['as it says itself, twice', [rename('ofd'), rename('ofd-reap')]],
  ]
  for (const [name, text] of cases) {
    t.equal(ofThread(lines(...text), 'ofd-reap').length, 2, name)
    t.equal(ofThread(lines(...text), 'node').length, 0, name)
  }
})

t.test('between two marks', async (t) => {
  const marked = (name: string) => `7<node> access("/overlayfd-mark/${name}", F_OK) = -1 ENOENT (x)`
  const calls = lines(
    '7<node> close(1) = 0',
    marked('a'),
    '7<node> close(2) = 0',
    marked('b'),
    '7<node> close(3) = 0',
  )
  t.same(
    between(calls, 'a', 'b').map(({ args }) => args),
    ['2'],
  )
  t.throws(() => between(calls, 'a', 'c'), { message: "strace saw no mark 'c'" })
})

t.test('a real module', programs('strace'), async (t) => {
  const { status, stdout, stderr, calls } = await straceModule(
    `import { mkdirSync } from 'node:fs'
    mark('begin')
    for (let i = 0; i < 3; i++) try { mkdirSync('/') } catch {}
    mark('end')
    process.stdout.write('done')`,
    { trace: 'mkdir,access,faccessat,stat,statx' },
  )
  t.same({ status, stdout, stderr }, { status: 0, stdout: 'done', stderr: '' })
  const made = between(calls, 'begin', 'end').filter(({ name }) => name === 'mkdir')
  t.same(
    made.map(({ args, result }) => `${args} → ${result}`),
    Array.from({ length: 3 }, () => '"/", 0777 → -1 EEXIST (File exists)'),
  )
  t.equal(made[0]?.thread, 'node')
})

t.test('a thread that names itself, and a call made to fail', programs('strace'), async (t) => {
  const { calls } = await straceModule(
    `import { existsSync } from 'node:fs'
    existsSync('/before')
    process.title = 'ofd-test'
    existsSync('/after')`,
    { trace: 'access,faccessat,stat,statx' },
  )
  const named = ofThread(calls, 'ofd-test').map(({ args }) => args)
  t.ok(named.some((args) => args.includes('/before')) && named.some((args) => args.includes('/after')))
  t.notOk(ofThread(calls, 'node').some(({ args }) => args.includes('/after')))
  const failed = await straceModule(`import { mkdirSync } from 'node:fs'; mkdirSync('/nowhere')`, {
    trace: 'mkdir',
    strace: ['--inject=mkdir:error=ENOSPC'],
  })
  t.match(failed.stderr, /ENOSPC/)
  // Node makes a directory of its own when it writes its coverage down
  t.same(
    failed.calls.filter(({ args }) => args.includes('"/nowhere"')).map(({ result }) => result.split(' ')[1]),
    ['ENOSPC'],
  )
})

t.test('malloc makes no calls of its own choice', programs('strace', 'gcc'), async (t) => {
  const dir = t.testdir({
    'threads.c': `
      #include <pthread.h>
      #include <stdlib.h>
      static pthread_barrier_t all;
      static void *thread(void *nothing) {
        void *memory = malloc(10);
        pthread_barrier_wait(&all);
        free(memory);
        return nothing;
      }
      int main(void) {
        pthread_t threads[40];
        pthread_barrier_init(&all, NULL, 40);
        for (int i = 0; i < 40; i++) pthread_create(&threads[i], NULL, thread, NULL);
        for (int i = 0; i < 40; i++) pthread_join(threads[i], NULL);
        return 0;
      }`,
  })
  const program = join(dir, 'threads')
  execFileSync('gcc', ['-pthread', '-o', program, join(dir, 'threads.c')])
  const { status, calls } = await straceProgram(program, [], { trace: 'openat' })
  t.equal(status, 0)
  t.same(
    calls.filter(({ args }) => args.includes('/sys/')).map(({ args }) => args),
    [],
  )
})
