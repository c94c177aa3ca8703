import fc from 'fast-check'
import t from 'tap'
import { formatCpuList, parseCpuList, parseCpuMask } from '../../../lib/host/topology/cpu-list.js'

const cpuSets = fc
  .uniqueArray(fc.integer({ min: 0, max: 600 }))
  .map((cpus) => [...cpus].sort((a, b) => a - b))

t.test('what is written is read', async (t) => {
  fc.assert(fc.property(cpuSets, (cpus) => t.same(parseCpuList(formatCpuList(cpus)), cpus)))
  fc.assert(
    fc.property(cpuSets, (cpus) => {
      const shuffled = [...cpus, ...cpus].reverse()
      return formatCpuList(shuffled) === formatCpuList(cpus)
    }),
  )
})

t.test('what is written is the shortest list', async (t) => {
  fc.assert(
    fc.property(cpuSets, (cpus) => {
      const text = formatCpuList(cpus)
      const runs = cpus.filter((cpu, i) => cpus[i - 1] !== cpu - 1).length
      return text === '' ? runs === 0 : text.split(',').length === runs
    }),
  )
  t.equal(formatCpuList([]), '')
  t.equal(formatCpuList([0, 1, 2, 3, 8, 10, 11]), '0-3,8,10-11')
})

t.test('lists as the kernel has them, and what is none', async (t) => {
  for (const [text, cpus] of [
    ['', []],
    ['\n', []],
    ['0\n', [0]],
    ['0-3,8,10-11\n', [0, 1, 2, 3, 8, 10, 11]],
    ['7,3-4,4-5', [3, 4, 5, 7]],
    ['65535', [65535]],
    ['3-1', undefined],
    ['1,', undefined],
    ['1--2', undefined],
    ['-1', undefined],
    ['a', undefined],
    ['0 1', undefined],
    ['0-65536', undefined],
    ['0-4000000000', undefined],
    ['0-3:1/2', undefined],
  ] as const) {
    t.same(parseCpuList(text), cpus, JSON.stringify(text))
  }
})

t.test('masks', async (t) => {
  const mask = (cpus: number[]): string => {
    const bits = cpus.reduce((sum, cpu) => sum | (1n << BigInt(cpu)), 0n)
    const digits = bits.toString(16)
    return digits
      .padStart(Math.ceil(digits.length / 8) * 8, '0')
      .match(/.{8}/g)!
      .join(',')
  }
  fc.assert(fc.property(cpuSets, (cpus) => t.same(parseCpuMask(mask(cpus)), cpus)))
  t.same(parseCpuMask('3\n'), [0, 1], 'the kernel drops leading zeros of the first word')
  t.same(parseCpuMask('80000000,00000001'), [0, 63])
  for (const text of ['', 'x', '0x3', '1,,1', '123456789', '1, 1']) {
    t.equal(parseCpuMask(text), undefined, JSON.stringify(text))
  }
})
