/**
 * Stacks of layers that say what they are, and ways in which a layer is not what its name suggests: a mount
 * point, a symbolic link, another directory by now. What the cases of layers-join.test.ts are made of.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LayerSource, Rootfs } from '../../lib/index.js'
import { type Needs, programs } from './needs.js'
import type { Scratch } from './scratch.js'

/** A layer that says what it is; `extra` goes into it too. */
export const layer = (path: string, says: string): string => {
  mkdirSync(path, { recursive: true })
  writeFileSync(join(path, `is-${says}`), says)
  writeFileSync(join(path, 'top'), says)
  return path
}

/** Which layers a mount shows, who owns their files, and which of them is the topmost. */
const shows = (dir: string, names: readonly string[]): string[] => [
  `top ${readFileSync(join(dir, 'top'), 'utf8')}`,
  ...names.map((name) => {
    try {
      const { uid, gid } = statSync(join(dir, `is-${name}`))
      return `${name} ${uid}:${gid}`
    } catch {
      return `${name} missing`
    }
  }),
]

export interface Case {
  readonly name: string
  /** the layers, topmost first, and what each is to say */
  make(area: Scratch): { lowerdir: LayerSource[]; says: string[] }
  /** once the layers are open; what has been opened stays what is mounted */
  after?(area: Scratch): void
  readonly needs?: Needs
}

export const plain = (area: Scratch, ...names: string[]) =>
  names.map((name) => layer(area.path('store', name), name))
export const bind = (from: string, to: string): void => {
  execFileSync('mount', ['-n', '--bind', from, to])
}

export const cases: readonly Case[] = [
  {
    name: 'from several parents',
    make: (area) => {
      const says = ['a', 'b', 'c', 'd']
      return { lowerdir: says.map((name, i) => layer(area.path(`store-${i % 2}`, name, 'fs'), name)), says }
    },
  },
  {
    name: 'from several filesystems, in turns',
    needs: programs('mkfs.ext4', 'losetup'),
    make: (area) => {
      const disk = area.ext4('disk')
      const says = ['a', 'b', 'c', 'd']
      const at = (name: string, i: number) => (i % 2 ? join(disk, name) : area.path('store', name))
      return { lowerdir: says.map((name, i) => layer(at(name, i), name)), says }
    },
  },
  {
    name: 'one that is a mount point',
    make: (area) => {
      const [a, b, c] = plain(area, 'a', 'b', 'c') as [string, string, string]
      layer(b, 'under')
      bind(layer(area.path('elsewhere'), 'over'), b)
      return { lowerdir: [b, a, c], says: ['over', 'a', 'c'] }
    },
  },
  {
    name: 'every one is a mount point',
    make: (area) => {
      const paths = plain(area, 'a', 'b')
      paths.forEach((path, i) => {
        bind(layer(area.path('elsewhere', String(i)), `over-${i}`), path)
      })
      return { lowerdir: paths, says: ['over-0', 'over-1'] }
    },
  },
  {
    name: 'one below a mount point',
    make: (area) => {
      const [a, c] = plain(area, 'a', 'c') as [string, string]
      layer(area.path('elsewhere', 'fs'), 'over')
      layer(area.path('store', 'b', 'fs'), 'under')
      bind(area.path('elsewhere'), area.path('store', 'b'))
      return { lowerdir: [a, area.path('store', 'b', 'fs'), c], says: ['a', 'over', 'c'] }
    },
  },
  ...(['absolute', 'relative'] as const).map((kind) => ({
    name: `one that is an ${kind} symbolic link`.replace('an r', 'a r'),
    make: (area: Scratch) => {
      const [a, c] = plain(area, 'a', 'c') as [string, string]
      layer(area.path('elsewhere', 'linked'), 'linked')
      const to = kind === 'absolute' ? area.path('elsewhere', 'linked') : '../elsewhere/linked'
      symlinkSync(to, area.path('store', 'b'))
      return { lowerdir: [area.path('store', 'b'), a, c], says: ['linked', 'a', 'c'] }
    },
  })),
  {
    name: 'a symbolic link in the middle of the path',
    make: (area) => {
      const [a, c] = plain(area, 'a', 'c') as [string, string]
      layer(area.path('elsewhere', 'b', 'fs'), 'linked')
      symlinkSync('../elsewhere/b', area.path('store', 'b'))
      return { lowerdir: [a, area.path('store', 'b', 'fs'), c], says: ['a', 'linked', 'c'] }
    },
  },
  {
    name: 'a symbolic link above them all',
    make: (area) => {
      const says = ['a', 'b']
      plain(area, ...says)
      symlinkSync('store', area.path('link'))
      return { lowerdir: says.map((name) => area.path('link', name)), says }
    },
  },
  {
    name: 'by a path with ..',
    make: (area) => {
      const [a] = plain(area, 'a', 'b') as [string, string]
      return { lowerdir: [`${area.path('store')}/a/../b`, a], says: ['b', 'a'] }
    },
  },
  {
    name: 'renamed, and another put in its place, after the stack opened',
    make: (area) => ({ lowerdir: plain(area, 'a', 'b', 'c'), says: ['a', 'b', 'c'] }),
    after: (area) => {
      renameSync(area.path('store', 'b'), area.path('store', 'moved'))
      layer(area.path('store', 'b'), 'replaced')
    },
  },
  {
    name: 'renamed, and a symbolic link put in its place, after the stack opened',
    make: (area) => ({ lowerdir: plain(area, 'a', 'b', 'c'), says: ['a', 'b', 'c'] }),
    after: (area) => {
      renameSync(area.path('store', 'a'), area.path('moved'))
      symlinkSync(area.path('moved'), area.path('store', 'a'))
    },
  },
  {
    name: 'the directory above renamed after the stack opened',
    make: (area) => ({ lowerdir: plain(area, 'a', 'b'), says: ['a', 'b'] }),
    after: (area) => {
      renameSync(area.path('store'), area.path('moved'))
      plain(area, 'a', 'b').forEach((path) => {
        layer(path, 'replaced')
      })
    },
  },
  {
    name: 'something mounted over one after the stack opened',
    make: (area) => ({ lowerdir: plain(area, 'a', 'b'), says: ['a', 'b'] }),
    after: (area) => bind(layer(area.path('elsewhere'), 'over'), area.path('store', 'b')),
  },
]

/** What a mount shows, which it ends. */
export const outOf = (rootfs: Rootfs, says: readonly string[]): string[] => {
  const seen = shows(rootfs.path, says)
  rootfs.unmountSync()
  return seen
}
export const expected = (says: readonly string[], shift: number) => [
  `top ${says[0]}`,
  ...says.map((name) => `${name} ${shift}:${shift}`),
]
