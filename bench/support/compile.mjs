/** Compiles the C programs that benchmarks run. */
import { dirname } from 'node:path'
import { runChild } from './child.mjs'

/**
 * The compiler's temporary files lie beside the program, so that they go with its directory when the compiler is killed.
 * @param {string} source
 * @param {string} program to be made, in a directory of this run's own
 * @param {string} what it is called in an error
 * @param {string[]} [flags]
 */
export const compile = (source, program, what, flags = []) =>
  runChild('cc', ['-O2', ...flags, '-o', program, source], {
    env: { ...process.env, TMPDIR: dirname(program) },
    what: `cc, for ${what}`,
  })
