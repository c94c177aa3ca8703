/**
 * Rung direct: no idmap, so no tree: the layers' own fds go into an fs context. Needs Linux 6.7; from
 * 6.13 on the context takes fds, before that their names in /proc.
 */
import { planClone } from './clone.js'
import { ownLowers, planContext } from './fs-context.js'
import type { Composition, RungInput } from './rung.js'

export const name = 'direct'

export function plan(input: RungInput): Composition {
  const { layers, spec } = input
  if (layers.list.length === 1 && spec.upperdir === undefined) return planClone(name, input)
  return planContext(name, input, (b, fs) => ownLowers(b, fs, input))
}
