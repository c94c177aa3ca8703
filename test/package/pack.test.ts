/**
 * The package as a user gets it: what is in it, file by file, and whether it loads from there.
 *
 * The list is derived from lib/: for each source a .js, its map and a .d.ts, and nothing else; so a file left in
 * dist/ by an older build fails too. The tarball is unpacked beside what it depends on and the addon that was
 * built here is linked in, for npm would build it there for half a minute more.
 */
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { environment, root, run } from '../support/child.js'

interface Packed {
  readonly filename: string
  readonly files: readonly { readonly path: string }[]
}

const npmPack = (...args: string[]): Packed => {
  const json = execFileSync('npm', ['pack', '--json', '--ignore-scripts', ...args], {
    cwd: root,
    env: environment(),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return (JSON.parse(json) as Packed[])[0] as Packed
}

const filesBelow = (dir: string): string[] =>
  readdirSync(join(root, dir), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length))

const metadata = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  readonly exports: Record<string, string | Record<string, string>>
}

t.test('the list of files', async (t) => {
  const compiled = filesBelow('lib').flatMap((file) => {
    const base = file.replace(/^lib\//, 'dist/').replace(/\.ts$/, '')
    return [`${base}.js`, `${base}.js.map`, `${base}.d.ts`]
  })
  const expected = [
    ...['package.json', 'README.md', 'CHANGELOG.md', 'LICENSE', 'binding.gyp'],
    ...filesBelow('docs'),
    ...filesBelow('native'),
    ...filesBelow('tracing'),
    ...compiled,
    ...(existsSync(join(root, 'prebuilds')) ? filesBelow('prebuilds') : []),
  ]
  const packed = npmPack('--dry-run').files.map(({ path }) => path)
  t.same(packed.sort(), expected.sort())
  t.notOk(packed.some((path) => /^(test|bench|demo|build)\//.test(path)))
})

t.test('unpacked beside its dependency', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'overlayfd-pack-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const { filename } = npmPack('--pack-destination', dir)
  const home = join(dir, 'node_modules/overlayfd')
  mkdirSync(join(dir, 'node_modules/@types'), { recursive: true })
  execFileSync('tar', ['-xf', join(dir, filename), '-C', join(dir, 'node_modules')])
  execFileSync('mv', [join(dir, 'node_modules/package'), home])
  symlinkSync(join(root, 'build'), join(home, 'build'))
  for (const name of ['node-gyp-build', '@types/node', 'undici-types']) {
    symlinkSync(join(root, 'node_modules', name), join(dir, 'node_modules', name))
  }

  await t.test('every export is there', async (t) => {
    for (const [name, target] of Object.entries(metadata.exports)) {
      const files = typeof target === 'string' ? [target] : Object.values(target)
      for (const file of files) t.ok(existsSync(join(home, file)), `${name} → ${file}`)
    }
  })

  await t.test('it loads', async (t) => {
    const names = ['mountOverlay', 'LayerStack', 'Mounter', 'explain', 'features']
    const say = `console.log(${JSON.stringify(names)}.map((name) => typeof overlayfd[name]).join(' ') + ' ' + typeof sys.fsopen)`
    const ways: [name: string, file: string, text: string][] = [
      [
        'import',
        'a.mjs',
        `import * as overlayfd from 'overlayfd'\nimport * as sys from 'overlayfd/sys'\n${say}`,
      ],
      ['require', 'b.cjs', `const overlayfd = require('overlayfd'), sys = require('overlayfd/sys')\n${say}`],
    ]
    for (const [name, file, text] of ways) {
      writeFileSync(join(dir, file), text)
      const { status, stdout, stderr } = await run(process.execPath, ['--no-warnings', join(dir, file)], {
        cwd: dir,
      })
      const expected = 'function function function function function function\n'
      t.same({ status, stdout, stderr }, { status: 0, stdout: expected, stderr: '' }, name)
    }
  })

  await t.test('its types serve a strict user', async (t) => {
    const text = `import { explain, LayerStack, mountOverlay, type Rootfs } from 'overlayfd'
      import { fsopen } from 'overlayfd/sys'
      export const mounted: Promise<Rootfs> = mountOverlay({ lowerdir: ['/a', '/b'], target: '/t' })
      export const fd: number = fsopen('tmpfs')
      export const opened: Promise<LayerStack> = LayerStack.open({ lowerdir: [Buffer.from('/a')] })
      export const text: string = String(explain({ lowerdir: ['/a', '/b'] }))
      // @ts-expect-error: lowerdir is a must
      export const refused = mountOverlay({ target: '/t' })\n`
    writeFileSync(join(dir, 'user.mts'), text)
    const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--types', 'node']
    const lib = ['--lib', 'es2023,esnext.disposable']
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    const { status, stdout } = await run(process.execPath, [tsc, ...options, ...lib, 'user.mts'], {
      cwd: dir,
    })
    t.same({ status, stdout }, { status: 0, stdout: '' })
  })
})
