/**
 * Prints, one a line, what the C++ of native/ is compiled with: binding.gyp's own words, for compilers that
 * node-gyp does not start. With the argument `napi` the headers of Node-API are among it, for the files that speak
 * to JavaScript; with `link` it is what the addon is linked with instead.
 */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const root = join(import.meta.dirname, '../..')
const [target] = JSON.parse(readFileSync(join(root, 'binding.gyp'), 'utf8')).targets

/** Beside the running node, as its distributors install them, or where node-gyp keeps what it has downloaded. */
const nodeHeaders = () => {
  const { version, config, execPath } = process
  const places = [
    join(dirname(execPath), '../include/node'),
    join(String(config.variables.node_prefix), 'include/node'),
    join(process.env.HOME ?? '/root', '.cache/node-gyp', version.slice(1), 'include/node'),
  ]
  const found = places.find((place) => existsSync(join(place, 'node_api.h')))
  if (found === undefined) throw new Error(`no headers of Node-API in ${places.join(', ')}`)
  return found
}

const flags = process.argv.includes('link')
  ? target.ldflags
  : [...target.cflags_cc, ...target.defines.map((define) => `-D${define}`)]
if (process.argv.includes('napi')) {
  const addonApi = dirname(createRequire(import.meta.url).resolve('node-addon-api/package.json'))
  flags.push('-isystem', addonApi, '-isystem', nodeHeaders())
}
for (const flag of flags) console.log(flag)
