import t from 'tap'
import { parseImage } from '../../lib/overlay/image-spec.js'
import { imageAt, imageCount, imageNamed, layerSubject, parseStack } from '../../lib/overlay/spec.js'

t.test('an image, as the plan wants it', async (t) => {
  const odd = Buffer.from([0x2f, 0xff])
  t.same(parseImage({ image: '/i//base.erofs' }, 'layer'), {
    image: { path: Buffer.from('/i/base.erofs') },
    devices: [],
    options: [],
  })
  const options = {
    acl: false,
    user_xattr: true,
    cache_strategy: 'disabled',
    directio: true,
    fsoffset: 4096,
  }
  t.same(parseImage({ image: 7, devices: [odd, 8, '/b'], options }, 'layer'), {
    image: { fd: 7 },
    devices: [{ path: odd }, { fd: 8 }, { path: Buffer.from('/b') }],
    options: [
      { key: 'noacl' },
      { key: 'user_xattr' },
      { key: 'cache_strategy', value: 'disabled' },
      { key: 'directio' },
      { key: 'fsoffset', value: '4096' },
    ],
  })
  t.same(parseImage({ image: '/i', options: { directio: false, acl: undefined } }, 'layer').options, [])
})

t.test('wrong ones', async (t) => {
  const type = 'ERR_INVALID_ARG_TYPE'
  const value = 'ERR_INVALID_ARG_VALUE'
  const range = 'ERR_OUT_OF_RANGE'
  const table: [unknown, string, string][] = [
    [{}, type, '"options.lowerdir[1].image" argument must be of type string, Buffer or a number (an fd). Received undefined'],
    [{ image: null }, type, '"options.lowerdir[1].image"'],
    [{ image: -1 }, range, '"options.lowerdir[1].image" is out of range. It must be an open fd'],
    [{ image: '/a\0b' }, value, '"options.lowerdir[1].image"'],
    [{ image: '/a', device: ['/b'] }, value, 'no option "options.lowerdir[1].device". Did you mean "devices"?'],
    [{ image: '/a', devices: '/b' }, type, '"options.lowerdir[1].devices" argument must be an array of paths, Buffers or fds'],
    [{ image: '/a', devices: ['/b', {}] }, type, '"options.lowerdir[1].devices[1]"'],
    [{ image: '/a', options: null }, type, '"options.lowerdir[1].options" argument must be an object'],
    [{ image: '/a', options: { dax: true } }, value, 'no option "options.lowerdir[1].options.dax"'],
    [{ image: '/a', options: { acl: 1 } }, type, '"options.lowerdir[1].options.acl" argument must be of type boolean'],
    [{ image: '/a', options: { cache_strategy: true } }, type, "one of 'disabled', 'readahead', 'readaround'"],
    [{ image: '/a', options: { cache_strategy: 'all' } }, value, "must be one of 'disabled', 'readahead'"],
    [{ image: '/a', options: { fsoffset: '1' } }, type, '"options.lowerdir[1].options.fsoffset" argument must be of type number'],
    [{ image: '/a', options: { fsoffset: 1.5 } }, range, 'an integer >= 0'],
    [['/a'], type, '"options.lowerdir[1]" argument must be of type string, Buffer, a number (an fd) or an image ({ image })'],
  ] // biome-ignore format: a table
  for (const [layer, code, message] of table) {
    t.throws(() => parseStack({ lowerdir: ['/l', layer as string] }), { code, message })
  }
})

t.test('which layers are images', async (t) => {
  const spec = parseStack({ lowerdir: ['/l', { image: '/i' }], datadir: [{ image: 9 }, '/d'] })
  t.same(
    [0, 1, 2, 3, 4].map((i) => imageAt(spec, i)?.image),
    [undefined, { path: Buffer.from('/i') }, { fd: 9 }, undefined, undefined],
  )
  t.equal(imageNamed(spec, 'lowerdir', 1), imageAt(spec, 1))
  t.equal(imageNamed(spec, 'datadir', 0), imageAt(spec, 2))
  t.equal(imageNamed(spec, 'upperdir', 0), undefined)
  t.equal(imageCount(spec), 2)
  t.same(layerSubject(spec, 1), { option: 'lowerdir', index: 1, path: Buffer.from('/i') })
  t.same(layerSubject(spec, 2), { option: 'datadir', index: 0, path: 'fd 9' })
})
