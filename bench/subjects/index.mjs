/**
 * All contenders. One is found by its name without loading the others' packages.
 */
import { commonParent } from './common-parent.mjs'
import { ffi } from './ffi.mjs'
import { floorSubjects } from './floor.mjs'
import { mount8 } from './mount8.mjs'
import { overlayfdNamed, overlayfdSubjects } from './overlayfd.mjs'
import { perLayer } from './per-layer.mjs'

/** Those that are always there, whatever the kernel does. @type {import('../support/drive.mjs').Subject[]} */
const others = [...floorSubjects, perLayer, commonParent, ffi, mount8]

/** @returns {Promise<import('../support/drive.mjs').Subject[]>} */
export async function allSubjects() {
  return [...(await overlayfdSubjects()), ...others]
}

/** @param {string} name @returns {import('../support/drive.mjs').Subject} */
export function findSubject(name) {
  if (name.startsWith('overlayfd/')) return overlayfdNamed(name)
  const found = others.find((subject) => subject.name === name)
  if (!found) throw new RangeError(`no contender '${name}'`)
  return found
}
