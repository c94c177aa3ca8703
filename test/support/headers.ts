/**
 * What the headers of this machine say: values of constants and sizes of structs, asked of the C compiler.
 *
 * A small program is generated that prints each name which the headers know, compiled and run. There are two
 * sets of headers, the C library's and the kernel's, which may clash and need not agree, so each is asked on its own.
 * A third program computes the values that native/uapi.h carries for the case that the headers lack them:
 * where they have them, that text is dead, and only this test would notice a wrong digit.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from './child.js'

export type Values = ReadonlyMap<string, number>

const sets = {
  libc: [
    'fcntl.h',
    'sched.h',
    'sys/ioctl.h',
    'sys/mount.h',
    'sys/prctl.h',
    'sys/stat.h',
    'sys/statvfs.h',
    'sys/syscall.h',
    'sys/vfs.h',
  ],
  kernel: [
    'linux/fcntl.h',
    'linux/magic.h',
    'linux/mount.h',
    'linux/openat2.h',
    'linux/pidfd.h',
    'linux/sched.h',
    'linux/securebits.h',
    'linux/stat.h',
  ],
} as const

export type HeaderSet = keyof typeof sets

/** Headers that are not there are left out. */
const includes = (set: HeaderSet): string =>
  sets[set].map((file) => `#if __has_include(<${file}>)\n#include <${file}>\n#endif\n`).join('')

const compiler = process.env['CC'] ?? 'cc'

const withSource = <T>(source: string, use: (file: string, program: string) => T): T => {
  const dir = mkdtempSync(join(tmpdir(), 'overlayfd-headers-'))
  try {
    const file = join(dir, 'headers.c')
    writeFileSync(file, `#define _GNU_SOURCE\n#include <stdio.h>\n${source}`)
    return use(file, join(dir, 'headers'))
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Runs a program that prints `name value` lines. */
const valuesOf = (declarations: string, statements: readonly string[]): Values => {
  const source = `${declarations}int main(void) {\n${statements.join('\n')}\nreturn 0;\n}\n`
  const output = withSource(source, (file, program) => {
    execFileSync(compiler, ['-w', '-o', program, file])
    return execFileSync(program, { encoding: 'utf8' })
  })
  const lines = output.split('\n').filter((line) => line !== '')
  return new Map(lines.map((line) => line.split(' ')).map(([name, value]) => [name as string, Number(value)]))
}

const print = (name: string, expression: string): string =>
  `printf("${name} %lld\\n", (long long)(${expression}));`

/** fsconfig's commands are an enum, which `#ifdef` does not see. */
const enumerators = (set: HeaderSet): ReadonlySet<string> => {
  const text = withSource(includes(set), (file) =>
    execFileSync(compiler, ['-E', '-P', file], { encoding: 'utf8', maxBuffer: 64 << 20 }),
  )
  return new Set(text.match(/\b[A-Z][A-Z0-9_]+\b(?=\s*=)/g))
}

/** The values of those of `names` that the headers have. */
export const headerValues = (set: HeaderSet, names: readonly string[]): Values => {
  const inEnum = enumerators(set)
  const statements = names.map((name) =>
    inEnum.has(name) ? print(name, name) : `#ifdef ${name}\n${print(name, name)}\n#endif`,
  )
  return valuesOf(includes(set), statements)
}

/** Sizes of those structs that the kernel's headers have, with the macro that came with each. */
export const headerSizes = (): Values => {
  const structs = { mount_attr: 'MOUNT_ATTR_SIZE_VER0', open_how: 'RESOLVE_NO_XDEV', statx: 'STATX_MNT_ID' }
  const statements = Object.entries(structs).map(
    ([name, macro]) => `#ifdef ${macro}\n${print(name, `sizeof(struct ${name})`)}\n#endif`,
  )
  return valuesOf(includes('kernel'), statements)
}

/** The constants as written in native/uapi.h, whatever the headers have. */
export const carriedValues = (): Values => {
  const text = readFileSync(join(root, 'native/uapi.h'), 'utf8')
  const definitions = text.matchAll(/^#define ([A-Z]\w+) (.+?) +\/\/ since Linux \d/gm)
  const statements = Array.from(definitions, ([, name = '', value = '']) => print(name, value))
  return valuesOf('#include <fcntl.h>\n#include <stdint.h>\n#include <sys/ioctl.h>\n', statements)
}
