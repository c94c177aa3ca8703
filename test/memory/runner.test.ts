/** Which files run under sanitizers, and whose a leak is, over reports as LeakSanitizer wrote them. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/child.js'

interface Parts {
  readonly leftOut: Record<string, string>
  readonly core: string[]
  ofTap(taprc: string, names: readonly string[]): string[]
  leaksOf(report: string): string[]
  isOurs(leak: string): boolean
}
const load = async (name: string): Promise<Parts> => import(new URL(name, import.meta.url).href)
const { core, leftOut, ofTap } = await load('files.mjs')
const { leaksOf, isOurs } = await load('leaks.mjs')

t.test('files', async (t) => {
  const taprc = 'include:\n  - test/**/*.test.ts\nexclude:\n  - test/kills/**\n  - test/faults/**\njobs: 2\n'
  const names = [
    'sys/tree.test.ts',
    'kills/a.test.ts',
    'killsome.test.ts',
    'faults/deep/b.test.ts',
    'support/run.mjs',
  ]
  t.same(ofTap(taprc, names), ['test/killsome.test.ts', 'test/sys/tree.test.ts'])
  t.same(
    ofTap('include:\n  - test/**\n', ['kills/a.test.ts']),
    ['test/kills/a.test.ts'],
    'nothing is excluded',
  )
  for (const file of core) t.ok(existsSync(join(root, file)), `${file} is there`)
  for (const [place, reason] of Object.entries(leftOut)) {
    t.ok(existsSync(join(root, place)), `${place} is there`)
    t.ok(reason.length > 20, reason)
  }
})

const allocator =
  '    #0 0x7f2e856b9628 in operator new(unsigned long) ../../../../src/libsanitizer/asan/asan_new_delete.cpp:95'
const stack = (...frames: string[]): string =>
  ['Direct leak of 256 byte(s) in 1 object(s) allocated from:', allocator]
    .concat(frames.map((frame, at) => `    #${at + 1} 0x7f6ed1982ce3 ${frame}`))
    .join('\n')
const node = (name: string): string => `in ${name} (/usr/bin/node+0x11a06f2)`
const map =
  'in std::__detail::_Map_base<unsigned long, int>::operator[](unsigned long const&) /usr/include/c++/12/bits/hashtable_policy.h:708'
const v8 = node('v8::internal::Page::AllocateFreeListCategories()')
const init = 'in Init native/addon.cc:10'

t.test('leaks of one process', async (t) => {
  const report = `\n====\n==node==7==ERROR: LeakSanitizer: detected memory leaks\n\n${stack(v8)}\n\n${stack(init)}\n\nSUMMARY: 2\n`
  t.equal(leaksOf(report).length, 2)
  t.same(leaksOf('==node==7==LeakSanitizer has encountered a fatal error.\n'), [])
})

t.test('whose it is', async (t) => {
  const table: [name: string, frames: string[], isOurs: boolean][] = [
    ['asked for by the addon', ['in OpenClaim native/claims.cc:60', node('napi_call_function')], true],
    ['by a container of the addon', [map, 'in OpenClaim native/claims.cc:60'], true],
    [
      'by an addon that is no longer mapped',
      ['(<unknown module>)', node('node::CleanupQueue::Drain()')],
      true,
    ],
    ['by an addon without its symbols', ['(/w/build/Release/overlayfd.node+0x81)', v8], true],
    ['by node, to be given back', [node('napi_create_reference'), init], true],
    ['by its insides, to be given back', [node('v8impl::Reference::New(napi_env__*)'), init], true],
    ['by another addon', ['(/w/node_modules/other/other.node+0xa320e)', '(<unknown module>)'], false],
    [
      'by node, for another addon',
      [node('napi_create_reference'), '(/w/node_modules/other/other.node+0x8b584)'],
      false,
    ],
    ['V8’s heap', [v8, node('v8::internal::Heap::Grow()')], false],
    ['V8’s heap, grown by a function of the addon', [v8, node('napi_create_function'), init], false],
    ['node’s own', [node('node::Environment::Environment()')], false],
    ['a container of V8', [map, node('v8::internal::Heap_CombinedBarrier()'), '(<unknown module>)'], false],
    ['the C library’s', ['in start_thread nptl/pthread_create.c:442'], false],
  ]
  for (const [name, frames, expected] of table) t.equal(isOurs(stack(...frames)), expected, name)
})
