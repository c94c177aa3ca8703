/**
 * The place where a life (test/kills/lives.mjs) is led and ended early, and what is promised of it afterwards: nothing is
 * mounted but complete mounts at their targets, once each; no temporary directory; and the next one, in the same process or
 * another, leads the same life in the same place to its end, where `index: 'on'` has the kernel refuse an upper that a
 * superblock still has.
 */
import { spawnSync } from 'node:child_process'
import { lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Mounter } from '../../dist/index.js'
import { umount } from '../../dist/sys.js'
import { lives, targets } from '../kills/lives.mjs'

/** Mounts below the place, in the namespace of a process: path and type, oldest first. */
const mountedBelow = ({ base }, pid) =>
  readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , , , path]) => path?.startsWith(`${base}/`))
    .map((words) => ({ path: words[4], type: words[words.indexOf('-') + 1] }))

/** Ids of all mounts of this namespace but those below the place. */
export const otherMounts = ({ base }) =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , , , path]) => path !== undefined && !path.startsWith(`${base}/`))
    .map(([id]) => id)
    .join()

export const prepare = ({ life, base }) => {
  for (const name of ['a', 'b', 'c', ...(life === 'group' ? ['group'] : [])])
    mkdirSync(join(base, name), { recursive: true })
}

const holderOf = ({ holder }) => holder ?? 'self'

const fileIn = (path) => {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    return error.code
  }
}

/** What a mount shows that is whole: whose its root is, and what is in files of both layers. */
const shown = (path) => {
  const { uid, gid } = lstatSync(path)
  const files = ['each', 'only-0', 'only-1'].map((name) => fileIn(join(path, name)))
  return `${uid}:${gid} ${files.join(', ')}`
}
const wanted = ({ life, shift }) => {
  if (life === 'tmpfs') return '0:0 ENOENT, ENOENT, ENOENT'
  return `${shift}:${shift} layer 0, layer 0, ${life === 'bind' ? 'ENOENT' : 'layer 1'}`
}

/** What is wrong with what is mounted, and which targets have a mount: a digit each. */
export const look = (place) => {
  const { life, base } = place
  const paths = targets[life].map((name) => join(base, name))
  const found = mountedBelow(place, holderOf(place))
  const wrong = []
  for (const { path, type } of found) {
    if (!paths.includes(path)) wrong.push(`${type} at ${path}`)
    else if (found.filter((other) => other.path === path).length > 1) wrong.push(`two mounts at ${path}`)
    // the group's own mount has nothing but directories
    else if (life !== 'group' || type === 'overlay') {
      const is = shown(place.holder ? `/proc/${place.holder}/root${path}` : path)
      if (is !== wanted(place)) wrong.push(`${path} shows ${is}`)
    }
  }
  if (place.holder)
    wrong.push(...mountedBelow(place, 'self').map(({ path }) => `${path} is here and not there`))
  return { wrong, mounted: paths.map((path) => Number(found.some((one) => one.path === path))).join('') }
}

/** Takes down what was allowed to be left; what could not be. */
const takeDown = (place) => {
  const left = mountedBelow(place, holderOf(place)).reverse()
  if (left.length === 0) return []
  const paths = left.map(({ path }) => path)
  if (!place.holder) {
    for (const path of paths) umount(path)
    return []
  }
  const { stderr } = spawnSync(
    'nsenter',
    [`--mount=/proc/${place.holder}/ns/mnt`, 'umount', '-n', ...paths],
    {
      encoding: 'utf8',
    },
  )
  return stderr === '' ? [] : [stderr]
}

const leadOn = async (place) => {
  const { life, rung } = place
  const wrong = []
  const mounter = new Mounter({ rung, threads: 1, reapers: 1 })
  let last = ''
  const made = () => {
    const { wrong: found, mounted } = look(place)
    wrong.push(...found)
    last = mounted
  }
  try {
    await (await lives[life]({ mounter, place, made }))()
    if (!last.includes('1')) wrong.push('mounted nothing')
  } catch (error) {
    wrong.push(error.message)
  }
  await mounter.close()
  return wrong.map((each) => `the next one: ${each}`)
}

let cleared = 0

/**
 * Makes room for the next case. What was mounted elsewhere has its directories claimed in this process until somebody else
 * wants them: their inodes are not to come again, or the next case begins with an attempt that meets such a claim.
 */
const clear = ({ base, holder }) => {
  if (holder) renameSync(base, `${base}-${process.pid}-${cleared++}`)
  // a mount point below it would be EBUSY
  else rmSync(base, { recursive: true, force: true })
}

/** Everything that is asked after an end, and the place as it was; what is wrong, and what was mounted. */
export const afterwards = async (place) => {
  const { wrong, mounted } = look(place)
  wrong.push(...readdirSync(place.tmp).map((name) => `temporary: ${name}`))
  try {
    wrong.push(...takeDown(place), ...(await leadOn(place)), ...takeDown(place))
    clear(place)
  } catch (error) {
    wrong.push(error.message)
  }
  return { wrong, mounted }
}
