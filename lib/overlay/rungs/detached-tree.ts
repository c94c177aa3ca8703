/**
 * Rung detached-tree: idmapped layers, with nothing attached but the result. Needs Linux 6.15.
 *
 * A detached clone of the directory above the layers is idmapped once; overlay takes the layers below it
 * (db04662e2f4f: it accepts layers of detached mounts).
 *
 *   the stack's own mapping   its tree and an fd of each layer are kept: a mount is a SET_FD a layer
 *   a mapping used once       a tree made for it, layers by name relative to it; the tree is handed out,
 *                             to be closed together with others (each close waits for a grace period)
 */
import * as c from '../../program/calls.js'
import { statxField } from '../../program/step.js'
import { lowersByName } from '../layers.js'
import { clonedTree } from '../trees.js'
import { planClone } from './clone.js'
import { ownLowers, planContext } from './fs-context.js'
import { type Composition, cachedFragment, type Output, type RungInput } from './rung.js'

export const name = 'detached-tree'

export function plan(input: RungInput): Composition {
  const { layers, spec, features, fragments } = input
  if (layers.list.length === 1 && spec.upperdir === undefined) return planClone(name, input)
  if (spec.idmap === undefined) {
    return planContext(name, input, (b, fs) => ownLowers(b, fs, input))
  }
  return planContext(name, input, (b, fs, userns) => {
    const trees = layers.groups.map((_, i) => b.slot(layers.groups.length === 1 ? 'tree' : `tree ${i}`))
    const mounts = layers.groups.map((_, i) => b.register(`mount of tree ${i}`))
    const spare = b.slot('layer')
    // a group whose layers were all renamed has none left
    const isUsed = (i: number) => layers.list.some(({ group }) => group === i)
    b.note('a mapping used once: its tree is closed later, with up to 64 others (2 more writes)')
    const images = layers.list.filter(({ isImage }) => isImage).length
    if (images > 0) b.note(`a mapping used once, and images: a clone of each of them (${images} more writes)`)
    return {
      prepare: () => {
        for (const [i, { root }] of layers.groups.entries()) {
          const subject = layers.list.find(({ group }) => group === i)?.subject
          if (subject === undefined) continue
          const hasNames = layers.list.some(({ group, name }) => group === i && name !== undefined)
          b.add(...clonedTree(trees[i]!, root, userns(), { detached: features }, hasNames, { subject }))
          if (!hasNames) continue
          const remember = [{ field: statxField.mountId, register: mounts[i]! }]
          b.add(c.statxFd(trees[i]!, features.uniqueMountId, { remember }))
        }
      },
      fragment: cachedFragment(fragments, 'by name', () =>
        lowersByName(fs, layers, { trees, mounts, spare, areClones: true }, features),
      ),
      changesDirectory: layers.list.some(({ name }) => name !== undefined),
      outputs: trees.filter((_, i) => isUsed(i)).map((slot): Output => ({ slot, kind: 'tree' })),
    }
  })
}
