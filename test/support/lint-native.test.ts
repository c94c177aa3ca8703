/** The lint's rules over files that are not there, as tables: each rule is seen to refuse and to let pass. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { root } from './child.js'

interface Fault {
  readonly file: string
  readonly line: number
  readonly what: string
}
interface Lint {
  readonly house: readonly { readonly part: string }[]
  foreignWords(file: string, text: string): Fault[]
  importFaults(files: Map<string, string>): Fault[]
  circles(files: Map<string, string>): string[][]
}
const lint: Lint = await import(new URL('lint-native.mjs', import.meta.url).href)

t.test('words of native/', async (t) => {
  const cases: [text: string, found: string[]][] = [
    ['fsopen(type, flags)', []],
    ['#define OVERLAYFS_SUPER_MAGIC 0x794c7630', []],
    ['NODE_API_MODULE(overlayfd, Init)', []],
    ['// mounts an overlay', ['overlay']],
    ['int mount_overlayfs();', ['mount_overlayfs']],
    ['"OverlayFS"', ['OverlayFS']],
    ['OVERLAYFD_MAGIC', ['OVERLAYFD_MAGIC']],
    ['opts += ",lowerdir="', ['lowerdir']],
    ['upper_dir, workdir', ['upper_dir', 'workdir']],
    ['// the layers of an image', ['layers']],
    ['// a whiteout; the rootfs', ['whiteout', 'rootfs']],
    ['// lower case, the upper bound, a player', []],
  ]
  for (const [text, found] of cases) {
    const words = lint.foreignWords('native/a.cc', text).map(({ what }) => /^'(.*?)'/.exec(what)?.[1])
    t.same(words, found, text)
  }
  t.same(lint.foreignWords('native/a.cc', '\n\n// overlay\n')[0]?.line, 3)
})

t.test('imports point down the house', async (t) => {
  const cases: [file: string, text: string, refused: boolean][] = [
    ['index.ts', "export { mountOverlay } from './mounter.js'", false],
    ['mounter.ts', "import { plan } from './overlay/choose.js'", false],
    ['mounter.ts', "import { fsopen } from './sys.js'", false],
    ['overlay/choose.ts', "import { Mounter } from '../mounter.js'", true],
    ['overlay/rungs/direct.ts', "import { choose } from '../choose.js'", false],
    ['overlay/rungs/direct.ts', "import type { Mounter } from '../../mounter.js'", true],
    ['program/encode.ts', "import {\n  a,\n  b,\n} from '../overlay/spec.js'", true],
    ['program/encode.ts', "export * from '../overlay/spec.js'", true],
    ['program/encode.ts', "import '../overlay/spec.js'", true],
    ['program/encode.ts', "const { a } = await import('../overlay/spec.js')", true],
    ['program/encode.ts', "import { run } from '../binding.js'", false],
    ['program/encode.ts', "import { readFileSync } from 'node:fs'", false],
    ['sys.ts', "import { features } from './host/features.js'", true],
    ['host/features.ts', "import { fsopen } from '../sys.js'", false],
    ['errors.ts', "import { errnoName } from './errno.js'", false],
    ['errors.ts', "import { fsopen } from './sys.js'", true],
    ['sys.ts', "// import { a } from './mounter.js'", false],
  ]
  for (const [file, text, refused] of cases) {
    t.equal(lint.importFaults(new Map([[file, text]])).length, refused ? 1 : 0, `${file}: ${text}`)
  }
})

t.test('one file loads the addon', async (t) => {
  const ways = [
    "import load from 'node-gyp-build'",
    "require('../build/Release/x')",
    "require('./overlayfd.node')",
    'process.dlopen(module, file)',
  ]
  for (const way of ways) {
    t.match(lint.importFaults(new Map([['sys.ts', way]])), [{ what: /loads the addon/ }], way)
    t.same(lint.importFaults(new Map([['binding.ts', way]])), [], way)
  }
  t.same(lint.importFaults(new Map([['sys.ts', "import { a } from 'node:fs'"]])), [])
})

t.test('every file has its place', async (t) => {
  t.match(lint.importFaults(new Map([['surprise.ts', '']])), [{ what: /no place in the house/ }])
})

t.test('circles', async (t) => {
  const [a, b] = ["import { b } from './b.js'", "import { c } from './c.js'"]
  const cases: [c: string, found: string[][]][] = [
    ['', []],
    ["import type { A } from './a.js'", []],
    ["import { a } from './a.js'", [['a.ts', 'b.ts', 'c.ts', 'a.ts']]],
    ["import { type A, a } from './a.js'", [['a.ts', 'b.ts', 'c.ts', 'a.ts']]],
    ["export * from './b.js'", [['b.ts', 'c.ts', 'b.ts']]],
  ]
  for (const [c, found] of cases) {
    t.same(lint.circles(new Map(Object.entries({ 'a.ts': a, 'b.ts': b, 'c.ts': c }))), found, c)
  }
})

t.test('the tree as it is', async (t) => {
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'test/support/lint-native.mjs')], {
    encoding: 'utf8',
  })
  t.same({ status, stderr }, { status: 0, stderr: '' })
})
