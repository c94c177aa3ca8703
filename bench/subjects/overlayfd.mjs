/**
 * overlayfd itself, one contender a rung and a form: `overlayfd/detached-tree`, `overlayfd/detached-tree/sync`.
 *
 * Warm, a LayerStack is open and mounts from it are measured; cold, nothing is open and each mount opens and closes
 * the layers. Which rungs there are and what they serve is asked of the library, not known here.
 */
import { drive } from '../support/drive.mjs'
import { FIRST_ID, IDS, mappingFrom } from '../support/scratch.mjs'

/** How many mappings there are before the first comes again: ids are 32 bits. */
const MAPPINGS = 60_000

const library = () => import('../../dist/index.js')

/** @returns {Promise<import('../support/drive.mjs').Subject[]>} */
export async function overlayfdSubjects() {
  const { rungs } = await library()
  return rungs.flatMap((rung) => [overlayfd(rung, false), overlayfd(rung, true)])
}

/** @param {string} name as it was given to a subject */
export function overlayfdNamed(name) {
  const [, rung = '', form] = name.split('/')
  return overlayfd(rung, form === 'sync')
}

/**
 * @param {string} rung
 * @param {boolean} isSync
 * @returns {import('../support/drive.mjs').Subject}
 */
function overlayfd(rung, isSync) {
  return {
    name: `overlayfd/${rung}${isSync ? '/sync' : ''}`,
    about: `this library, rung ${rung}, ${isSync ? 'Sync form' : 'promises'}`,
    async refuses(task) {
      if (isSync && task.inFlight > 1) return 'the Sync form has one in flight'
      if (isSync && task.measure === 'teardown' && task.order !== 'one by one')
        return 'the Sync form takes down one by one'
      const { explain } = await library()
      const dir = '/any'
      const lowerdir = Array.from({ length: task.layers }, (_, n) => `${dir}/${n}`)
      const options = { lowerdir, upperdir: `${dir}/upper`, workdir: `${dir}/work`, target: dir }
      try {
        explain({ ...options, ...stackIdmap(task) }, { rung })
      } catch (error) {
        if (error instanceof Error && 'obstacles' in error) return Reflect.get(Object(error.obstacles), rung)
        throw error
      }
    },
    run: (task, place) =>
      drive(task, place, async (lowerdir) => {
        const { Mounter } = await library()
        const mounter = new Mounter({ rung })
        const session = await openSession(mounter, isSync, task, lowerdir)
        return task.order === 'grouped' ? inGroups(mounter, session, place.scratch.mkdir('group')) : session
      }),
  }
}

/** @param {import('../rounds.mjs').Task} task */
function stackIdmap({ idmap }) {
  return idmap === 'none' ? {} : { idmap: mappingFrom(FIRST_ID) }
}

/**
 * @param {import('../../dist/index.js').Mounter} mounter is closed with it
 * @param {boolean} isSync
 * @param {import('../rounds.mjs').Task} task
 * @param {string[]} lowerdir
 * @returns {Promise<import('../support/drive.mjs').Session>}
 */
async function openSession(mounter, isSync, task, lowerdir) {
  // a stack whose mounts all have a mapping of their own is opened with none
  const opened = { lowerdir, ...(task.idmap === 'own' ? {} : stackIdmap(task)) }
  const stack = task.isCold ? undefined : await mounter.open(opened)
  const source = stack ?? {
    mount: (/** @type {object} */ options) => mounter.mount({ ...opened, ...options }),
    mountSync: (/** @type {object} */ options) => mounter.mountSync({ ...opened, ...options }),
  }
  let mappings = 0
  const optionsOf = (/** @type {import('../support/scratch.mjs').Container} */ container) =>
    task.idmap === 'own'
      ? { ...container, idmap: mappingFrom(FIRST_ID + IDS * (mappings++ % MAPPINGS)) }
      : container
  return {
    isSync,
    compose: (container) =>
      isSync ? source.mountSync(optionsOf(container)) : source.mount(optionsOf(container)),
    teardown: (rootfs) => (isSync ? rootfs.unmountSync() : rootfs.unmount()),
    idle: () => mounter.idle(),
    statistics: () => mounter.stats,
    async close() {
      await stack?.close()
      await mounter.close()
    },
  }
}

/**
 * The same with all mounts in a MountGroup, which is opened for the first of them and taken down with all.
 * @param {import('../../dist/index.js').Mounter} mounter
 * @param {import('../support/drive.mjs').Session} session
 * @param {string} directory where the group is
 * @returns {Promise<import('../support/drive.mjs').Session>}
 */
async function inGroups(mounter, session, directory) {
  const { MountGroup } = await library()
  /** @type {import('../../dist/index.js').MountGroup | undefined} */
  let group
  let members = 0
  return {
    ...session,
    async compose(container) {
      group ??= await MountGroup.open(directory, { mounter })
      return session.compose({ ...container, target: group.target(String(members++)) })
    },
    async teardownAll() {
      await group?.unmount()
      group = undefined
    },
  }
}
