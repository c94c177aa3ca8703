/** Names and paths of every kind of bytes, for properties. */
import fc from 'fast-check'

export const NAME_MAX = 255

/** What means something to mount(2), to fsconfig(2), to a shell, to a terminal, or to mountinfo. */
const telling = [
  ...[' ', '\n', '\t', '\r', ',', ':', '\\', '"', "'", '=', '+', '-', '--', '..x', '...', '\\:', '\\,', ',,'],
  ...[
    '::',
    '\\\\',
    ':\\',
    '$(x)',
    '*',
    '?',
    '#',
    '~',
    '%s',
    '\x1b[2J',
    '\x7f',
    ' (deleted)',
    '//deleted',
    '\\040',
  ],
  ...['lowerdir=', 'upperdir=/', ',ro', 'é', '\u202e', '💥', '0', '123', 'self', 'fd'],
].map((text) => Buffer.from(text))

const ofBytes = fc
  .uint8Array({ minLength: 1, maxLength: 12 })
  .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0xff : byte))))
const ofWords = fc
  .array(fc.constantFrom(...telling), { minLength: 1, maxLength: 6 })
  .map((words) => Buffer.concat(words))
const long = fc
  .integer({ min: 1, max: NAME_MAX })
  .chain((byte) =>
    fc
      .integer({ min: NAME_MAX - 2, max: NAME_MAX })
      .map((length) => Buffer.alloc(length, byte === 0x2f ? 0xe9 : byte)),
  )

const isName = (name: Buffer) =>
  !name.includes(0x2f) && !['.', '..'].includes(name.toString('latin1')) && name.length <= NAME_MAX
export const name = fc
  .oneof({ weight: 3, arbitrary: ofBytes }, { weight: 4, arbitrary: ofWords }, { weight: 1, arbitrary: long })
  .map((bytes) => Buffer.from(bytes.toString('latin1').replaceAll('/', '|'), 'latin1').subarray(0, NAME_MAX))
  .filter(isName)
/** Names one below the other: mostly few, sometimes as deep as PATH_MAX lets it be with a scratch directory above and a name below */
export const place = fc.oneof(
  { weight: 6, arbitrary: fc.array(name, { minLength: 1, maxLength: 3 }) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(name, fc.constant(Buffer.alloc(NAME_MAX, 0x61)))
      .map(([first, deep]) => [first, ...Array(13).fill(deep)]),
  },
)
