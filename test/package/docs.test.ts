/**
 * The documentation against the code: what is exported, every option, code and hint is in it; each exported
 * name has a comment of its own, those of system calls with the C call and the manual page; links lead
 * somewhere; and the examples of the README do what it says that they do.
 *
 * Names, members and comments come from the TypeScript compiler, hints from the syntax tree of the files that
 * make them: the longest fixed part of each has to be in docs/errors.md.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { dist, root, runModule } from '../support/child.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'

const pages = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', ...inDocs()]
const flat = (text: string) => text.replace(/\s+/g, ' ')
const page = new Map(pages.map((name) => [name, readFileSync(join(root, name), 'utf8')]))
const errorsPage = flat(page.get('docs/errors.md') ?? '')
const reference = flat([...page].map(([name, text]) => (/README|docs/.test(name) ? text : '')).join('\n'))

function inDocs(): string[] {
  return readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)
}

/** As code: between backticks, perhaps as part of an expression. */
const isNamed = (name: string) => new RegExp(`\`[^\`]*\\b${name}\\b[^\`]*\``).test(reference)

const entries = {
  index: join(root, 'lib/index.ts'),
  sys: join(root, 'lib/sys.ts'),
  rootless: join(root, 'lib/rootless.ts'),
}
const program = ts.createProgram(Object.values(entries), {
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
  types: ['node'],
  strict: true,
  noEmit: true,
})
const checker = program.getTypeChecker()

function exportsOf(file: string): ts.Symbol[] {
  const module = checker.getSymbolAtLocation(program.getSourceFile(file)!)!
  return checker
    .getExportsOfModule(module)
    .map((symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol))
}

const commentOf = (symbol: ts.Symbol) => ts.displayPartsToString(symbol.getDocumentationComment(checker))
const hasTag = (symbol: ts.Symbol, name: string) => symbol.getJsDocTags().some((tag) => tag.name === name)

/** Public members that are declared in lib/: of an interface, or of a class and its instances. */
function membersOf(symbol: ts.Symbol): ts.Symbol[] {
  const isStatic = symbol.flags & ts.SymbolFlags.Class ? [...(symbol.exports?.values() ?? [])] : []
  return [...(symbol.members?.values() ?? []), ...isStatic].filter((member) => {
    const isOurs = member.declarations?.every((node) => node.getSourceFile().fileName.startsWith(root))
    return (
      isOurs && /^[a-z]\w*$/i.test(member.name) && !/^__/.test(member.name) && member.name !== 'prototype'
    )
  })
}

const isInternal = (symbol: ts.Symbol) => hasTag(symbol, 'internal')
const publicMembers = (symbol: ts.Symbol) => membersOf(symbol).filter((member) => !isInternal(member))
const byName = (name: string) => exportsOf(entries.index).find((symbol) => symbol.name === name)!

t.test('every exported name has a comment, and is in the documentation', async (t) => {
  const exported = [...exportsOf(entries.index), ...exportsOf(entries.rootless)]
  t.ok(exported.length > 20, 'the list is there')
  for (const symbol of exported) {
    t.ok(commentOf(symbol), `${symbol.name} has a comment`)
    t.ok(isNamed(symbol.name), `${symbol.name} is in README.md or docs/`)
    for (const member of publicMembers(symbol)) {
      const documented = commentOf(member) || hasTag(member, 'see') || member.name === 'toString'
      t.ok(documented || member.name === 'toJSON', `${symbol.name}.${member.name} has a comment`)
      if (!(symbol.flags & ts.SymbolFlags.Class)) continue
      const known = ['name', 'toString', 'toJSON', 'parts', 'slots', 'registers', 'inputs', 'outputs']
      if (!known.includes(member.name)) t.ok(isNamed(member.name), `${symbol.name}.${member.name} is in it`)
    }
  }
})

t.test('every option is in the documentation', async (t) => {
  const options = [
    'StackOptions',
    'ImageLayer',
    'ImageOptions',
    'StackMountOptions',
    'OverlayOptions',
    'MountAttributes',
    'MounterOptions',
  ]
  for (const name of [...options, 'UnmountOptions', 'AttachOptions', 'CallOptions', 'Features', 'Cost']) {
    const members = membersOf(byName(name))
    t.ok(members.length > 0, name)
    for (const member of members) t.ok(isNamed(member.name), `${name}.${member.name}`)
  }
})

t.test('system calls: the C call, the version, the manual page', async (t) => {
  const exported = exportsOf(entries.sys)
  const calls = exported.filter(({ flags, name }) => flags & ts.SymbolFlags.Function && name !== 'flag')
  t.ok(calls.length > 25, 'the list is there')
  for (const symbol of calls) {
    const comment = commentOf(symbol)
    t.match(comment, /^`[a-z_0-9]+\(.*\)`/, `${symbol.name} begins with the call`)
    t.match(comment, /(Every Linux|Linux \d)/, `${symbol.name} names the kernel`)
    t.ok(hasTag(symbol, 'see'), `${symbol.name} names its manual page`)
    if (symbol.name !== 'close') t.ok(hasTag(symbol, 'throws'), `${symbol.name} names its errors`)
  }
  for (const symbol of exported) t.ok(commentOf(symbol), `${symbol.name} has a comment`)
})

t.test('every rung, code, warning and variable', async (t) => {
  const { rungs } = (await import(dist('index.js'))) as { rungs: string[] }
  for (const rung of rungs) {
    t.match(page.get('README.md') ?? '', new RegExp(`^\\| \`${rung}\` \\|`, 'm'), `${rung} is in the table`)
  }
  const source = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => readFileSync(join(root, 'lib', name), 'utf8'))
    .join('\n')
  const codes = new Set([...source.matchAll(/'((?:ERR|OVERLAYFD)_[A-Z_]+)'/g)].map(([, code]) => code!))
  t.ok(codes.size >= 8, 'codes were found')
  for (const code of codes) {
    t.ok(code === 'OVERLAYFD_RUNG' ? isNamed(code) : errorsPage.includes(`\`${code}\``), code)
  }
})

/** The fixed part of a text that is longest, without the space around it. */
function fixedPart(node: ts.Node): string | undefined {
  if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node)) return node.text.trim()
  if (!ts.isTemplateExpression(node)) return undefined
  const texts = [node.head.text, ...node.templateSpans.map(({ literal }) => literal.text)]
  return texts.map((text) => text.trim()).reduce((a, b) => (b.length > a.length ? b : a))
}

function textsIn(file: string, isHint: (node: ts.Node) => boolean): string[] {
  const found: string[] = []
  const visit = (node: ts.Node, within: boolean): void => {
    if (ts.isImportDeclaration(node)) return
    const inside = within || isHint(node)
    const text = inside ? fixedPart(node) : undefined
    // paths, names of options and pieces of them are no hints
    if (text !== undefined && text.length >= 8 && text.includes(' ') && !text.startsWith('/'))
      found.push(text)
    ts.forEachChild(node, (child) => visit(child, inside))
  }
  const path = join(root, 'lib', file)
  visit(ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.ES2022, true), false)
  return found
}

const namedHint = (node: ts.Node) =>
  (ts.isPropertyAssignment(node) || ts.isVariableDeclaration(node)) && /^hints?$/.test(node.name.getText())

t.test('every hint', async (t) => {
  const causes = readdirSync(join(root, 'lib/diagnose')).map((name) => `diagnose/${name}`)
  const hints = [
    ...['diagnose.ts', ...causes].flatMap((file) => textsIn(file, ts.isSourceFile)),
    ...[
      'overlay/compose.ts',
      'overlay/check-upper.ts',
      'overlay/images.ts',
      'overlay/unmount.ts',
      'sys/fsconfig.ts',
    ].flatMap((f) => textsIn(f, namedHint)),
  ]
  t.ok(hints.length > 40, `${hints.length} were found`)
  for (const hint of hints) t.ok(errorsPage.includes(hint), hint)
  const diagnose = readFileSync(join(root, 'lib/diagnose.ts'), 'utf8')
  const errnos = new Set([...diagnose.matchAll(/'(E[A-Z]{3,})'/g)].map(([, errno]) => errno!))
  for (const errno of errnos) t.ok(errorsPage.includes(`\`${errno}\``), errno)
})

t.test('links lead somewhere', async (t) => {
  const anchors = (text: string) =>
    [...text.matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
      title!
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replace(/ /g, '-'),
    )
  for (const [name, text] of page) {
    for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https:/.test(target!)) continue
      const [file, anchor] = target!.split('#')
      const path = file ? join(dirname(name), file) : name
      t.ok(existsSync(join(root, path)), `${name}: ${target}`)
      if (anchor) t.ok(anchors(page.get(path) ?? '').includes(anchor), `${name}: ${target}`)
    }
  }
})

t.test('the examples of the README', privileged, async (t) => {
  const { dir } = scratch(t)
  const blocks = page.get('README.md')!.matchAll(/```js\n([\s\S]*?)```\n(?:\n```text\n([\s\S]*?)```)?/g)
  let count = 0
  for (const [, code, expected = ''] of blocks) {
    const text = code!
      .replaceAll('/tmp/overlayfd-example', dir)
      .replace(/'overlayfd(\/sys)?'/g, (_, sys?: string) => `'${dist(sys ? 'sys.js' : 'index.js')}'`)
    const { status, stdout, stderr } = await runModule(text)
    const title = `example ${++count}: ${code!.split('\n').find((line) => /await|\(/.test(line)) ?? ''}`
    t.same(
      { status, stdout, stderr },
      { status: 0, stdout: expected.replaceAll('/tmp/overlayfd-example', dir), stderr: '' },
      title,
    )
  }
  t.ok(count >= 7, `${count} were run`)
  const lines = /```js\n([\s\S]*?)```/.exec(page.get('README.md')!)![1]!.trimEnd().split('\n')
  t.equal(lines.length, 12, 'the first is of 12 lines')
})
