/**
 * Where the tests of this directory mount: one scratch area for all of them, with one disk, for in an emulated
 * guest each mkfs(8), mount(8) and loop device is a second. Names are the tests' own: layers lie `below` something.
 *
 * Layers and containers are on ext4, as tmpfs takes no idmap before Linux 6.3; `memory` is the tmpfs.
 */
import t from 'tap'
import { type Scratch, scratch } from '../support/scratch.js'

export const memory: Scratch = scratch(t)

const disk = memory.ext4('disk', 64)

export const area: Scratch = {
  ...memory,
  layers: (count, options) => memory.layers(count, { base: disk, ...options }),
  container: (name, base = disk) => memory.container(name, base),
}
