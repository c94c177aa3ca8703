/**
 * The table of overlay's options against what is written about them (the doc comments, docs/options.md, what is
 * probed), both ways; and against the kernel: it refuses together what the table says, and nothing else.
 */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { binding } from '../../lib/binding.js'
import * as f from '../../lib/flags.js'
import { probedOptions, selinuxOptions } from '../../lib/host/overlay-options.js'
import { conflicts, type OptionName, optionTable, type Side } from '../../lib/overlay/option-table.js'
import { parseOptions } from '../../lib/overlay/options.js'
import { root } from '../support/child.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'

const names = Object.keys(optionTable) as OptionName[]
const wordsOf = (name: OptionName): string[] => {
  const { kind } = optionTable[name]
  return typeof kind === 'string' ? [] : [...kind]
}

/** `'on'`, `'off'` */
const values = (name: OptionName): string => {
  const { kind } = optionTable[name]
  if (kind === 'text') return 'a context'
  if (name === 'volatile') return "`true`, `'reset'`"
  return typeof kind === 'string' ? '`true`, `false`' : kind.map((word) => `\`'${word}'\``).join(', ')
}
const side = ([name, ...words]: Side): string =>
  `\`${words.length === 0 ? name : `${name}: '${words.join("'`, `'")}'`}\``
/** What an option excludes, with its own values where that depends on them. */
const excludes = (name: OptionName): string =>
  conflicts
    .flatMap(({ pair: [a, b], upper }) => {
      const [own, other] = a[0] === name ? [a, b] : [b, a]
      if (own[0] !== name) return []
      const words = own.slice(1)
      const which = words.length === 0 ? '' : ` (\`'${words.join("'`, `'")}'\`)`
      return [`${side(other)}${which}${upper ? ' with an `upperdir`' : ''}`]
    })
    .join('; ') || '–'
const row = (name: OptionName): string[] => {
  const { since, default: standard } = optionTable[name]
  return [`\`${name}\``, values(name), since, standard, excludes(name)]
}

t.test('docs/options.md has the table, and nothing else', async (t) => {
  const page = readFileSync(join(root, 'docs/options.md'), 'utf8')
  const rows = [...page.matchAll(/^\| (`\w+` \|.*) \|$/gm)].map(([, cells]) => cells!.split(' | '))
  const written = new Map(rows.map((cells) => [cells[0], cells]))
  t.equal(written.size, rows.length, 'each once')
  t.same(
    rows.map((cells) => cells[0]),
    names.map((name) => `\`${name}\``),
    'the same names, in the order of the type',
  )
  for (const name of names) {
    const cells = written.get(`\`${name}\``) ?? []
    t.same(cells.slice(0, 5), row(name), row(name).join(' | '))
    t.ok((cells[5] ?? '').length > 20, `${name}: what it does`)
  }
})

t.test('the doc comments say the same', async (t) => {
  const path = join(root, 'lib/overlay/option-table.ts')
  const program = ts.createProgram([path], { module: ts.ModuleKind.NodeNext, strict: true, noEmit: true })
  const checker = program.getTypeChecker()
  const file = checker.getSymbolAtLocation(program.getSourceFile(path)!)!
  const options = checker.getExportsOfModule(file).find((symbol) => symbol.name === 'OverlayOptions')!
  const members = [...(options.members?.values() ?? [])]
  t.same(
    members.map((member) => member.name),
    names,
    'the type has the options of the table',
  )
  for (const member of members) {
    const name = member.name as OptionName
    const comment = ts.displayPartsToString(member.getDocumentationComment(checker)).replace(/\s+/g, ' ')
    const { since, default: standard } = optionTable[name]
    t.ok(comment.includes(`Default: ${standard.replaceAll('`none`', 'none')}`), `${name}: ${standard}`)
    t.ok(comment.includes(`Since Linux ${since}`), `${name}: since ${since}`)
    const excluded = comment.slice(comment.indexOf('Excludes'))
    for (const { pair } of conflicts) {
      const i = pair.findIndex(([option]) => option === name)
      const other = pair[1 - i]?.[0]
      if (i >= 0)
        t.ok(comment.includes('Excludes') && excluded.includes(`\`${other}`), `${name}: not ${other}`)
    }
    // and no other: what is named there is in a conflict
    for (const [, other] of excluded.matchAll(comment.includes('Excludes') ? /`(\w+)[:`]/g : /(?!)/g)) {
      if (!names.includes(other as OptionName) || /before Linux/.test(excluded)) continue
      const isOne = conflicts.some(({ pair }) =>
        [name, other].every((each) => pair.some(([o]) => o === each)),
      )
      t.ok(isOne, `${name}: ${other} is a conflict of the table`)
    }
    const type = checker.typeToString(checker.getTypeOfSymbol(member))
    for (const word of wordsOf(name)) t.ok(type.includes(`"${word}"`), `${name}: ${word} is in ${type}`)
    t.equal(
      [...type.matchAll(/"\w+"/g)].length,
      name === 'volatile' ? 1 : wordsOf(name).length,
      `${name}: ${type}`,
    )
  }
})

t.test('every word is probed', async (t) => {
  const wanted = names.flatMap((name) => {
    const { kind } = optionTable[name]
    if (kind === 'text') return []
    if (kind === 'negatable') return [name, `no${name}`]
    return kind === 'flag' ? [name] : kind.map((word) => `${name}=${word}`)
  })
  t.same(probedOptions, wanted)
  t.same(
    selinuxOptions,
    names.filter((name) => optionTable[name].kind === 'text'),
  )
})

/** Options that have a say in conflicts, with all their words, and none. */
const domain: Partial<Record<OptionName, readonly (string | boolean | undefined)[]>> = {
  metacopy: [undefined, 'on', 'off'],
  redirect_dir: [undefined, 'on', 'off', 'follow', 'nofollow'],
  nfs_export: [undefined, 'on', 'off'],
  index: [undefined, 'on', 'off'],
  userxattr: [undefined, true],
  verity: [undefined, 'require'],
}
const combinations = Object.entries(domain).reduce<Record<string, string | boolean>[]>(
  (all, [name, words]) =>
    all.flatMap((one) => words.map((word) => (word === undefined ? one : { ...one, [name]: word }))),
  [{}],
)

const isRefused = (options: object, hasUpper: boolean): boolean => {
  try {
    parseOptions(options, 'options', hasUpper)
    return false
  } catch {
    return true
  }
}

t.test('the kernel refuses what the table does', privileged, async (t) => {
  const area = scratch(t)
  const [lower, other] = area.layers(2)
  const text = (value: string) => Buffer.from(`${value}\0`)
  const follows = /^Y/.test(readFileSync('/sys/module/overlay/parameters/redirect_always_follow', 'utf8'))
  /** 0, or what CREATE says */
  const create = (options: Record<string, string | boolean>, dirs: Record<string, string>): number => {
    const fs = binding.fsopen(text('overlay'), f.FSOPEN_CLOEXEC)
    const set = (key: string, value: string) =>
      binding.fsconfig(fs, f.FSCONFIG_SET_STRING, text(key), text(value), 0)
    for (const [key, value] of Object.entries({ lowerdir: `${lower}:${other}`, ...dirs })) set(key, value)
    for (const [key, value] of Object.entries(options)) {
      if (value === true) binding.fsconfig(fs, f.FSCONFIG_SET_FLAG, text(key), null, 0)
      else set(key, String(value))
    }
    const result = binding.fsconfig(fs, f.FSCONFIG_CMD_CREATE, null, null, 0)
    binding.close(fs)
    return result
  }
  const differ: string[] = []
  let refused = 0
  for (const [i, options] of combinations.entries()) {
    for (const hasUpper of [true, false]) {
      const dirs = { upperdir: area.path(`u${i}`), workdir: area.path(`w${i}`) }
      if (hasUpper) for (const dir of Object.values(dirs)) mkdirSync(dir)
      const kernel = create(options, hasUpper ? dirs : {}) !== 0
      const ours = isRefused(options, hasUpper)
      if (kernel) refused++
      if (kernel === ours) continue
      const { redirect_dir, metacopy, nfs_export, index } = options
      // stricter, where the kernel goes by a module parameter or drops an option without a word
      const byParameter = redirect_dir === 'off' && (hasUpper ? !follows : follows || metacopy === 'on')
      const dropped = !hasUpper && nfs_export === 'on' && (redirect_dir !== 'nofollow' || index === 'off')
      if (ours && (byParameter || dropped)) continue
      differ.push(`${JSON.stringify(options)}, upper ${hasUpper}: kernel ${kernel}, table ${ours}`)
    }
  }
  t.same(differ, [])
  t.ok(refused > 100, `${refused} of ${2 * combinations.length} were refused`)
})
