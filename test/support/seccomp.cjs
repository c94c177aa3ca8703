/**
 * Puts a seccomp filter in front of system calls: of the command given as arguments, or of this process.
 *
 *   node test/support/seccomp.cjs HEX COMMAND ARGUMENTS…   the command begins behind it
 *   require(…).install(HEX)                                every thread of this process, from now on
 *
 * HEX is a program of classic BPF, which seccomp.ts makes. A filter cannot be taken away again, and what a process
 * starts inherits it. seccomp(2) wants CAP_SYS_ADMIN or no_new_privs, so the latter is set.
 */
'use strict'

const koffi = require('koffi')

const PR_SET_NO_NEW_PRIVS = 38
const SECCOMP_SET_MODE_FILTER = 1
const SECCOMP_FILTER_FLAG_TSYNC = 1
const F_SETFD = 2
const SYS_seccomp = process.arch === 'arm64' ? 277 : 317

koffi.struct('sock_fprog', { len: 'uint16_t', filter: 'void *' })
const libc = koffi.load('libc.so.6')
const prctl = libc.func('int prctl(int option, ulong a, ulong b, ulong c, ulong d)')
const seccomp = libc.func('long syscall(long number, ulong operation, ulong flags, sock_fprog *program)')
const fcntl = libc.func('int fcntl(int fd, int command, long argument)')
const execvp = libc.func('int execvp(const char *file, const char **argv)')

/**
 * @param {number} result of a call of libc
 * @param {string} call as it is to be named in the error
 */
const check = (result, call) => {
  if (result !== 0) throw new Error(`seccomp: ${call} failed: ${result}, errno ${koffi.errno()}`)
}

/** @param {string} hex the filter */
const install = (hex) => {
  const filter = Buffer.from(hex, 'hex')
  check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 'prctl(PR_SET_NO_NEW_PRIVS)')
  const program = { len: filter.length / 8, filter }
  const result = seccomp(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, program)
  check(result, 'seccomp(SECCOMP_SET_MODE_FILTER)')
}

module.exports = { install }

if (require.main === module) {
  const [hex = '', ...command] = process.argv.slice(2)
  // node closes what it was given when it becomes another program
  for (const fd of [0, 1, 2]) check(fcntl(fd, F_SETFD, 0), 'fcntl(F_SETFD)')
  install(hex)
  check(execvp(command[0] ?? '', [...command, null]), `execvp(${command[0]})`)
}
