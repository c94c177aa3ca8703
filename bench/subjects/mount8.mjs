/**
 * mount(8) and umount(8), a child process for each: what a program does that has nothing else. No idmap, which
 * util-linux gives to mounts and not to the layers of an overlay.
 */
import { spawn } from 'node:child_process'
import { drive } from '../support/drive.mjs'

/** @type {import('../support/drive.mjs').Subject} */
export const mount8 = {
  name: 'mount(8)',
  about: 'mount(8) and umount(8), a child process each',
  refuses: ({ idmap }) => (idmap === 'none' ? undefined : 'it does not idmap layers'),
  run: (task, place) =>
    drive(task, place, async (lowerdir) => {
      const layers = place.scratch.path('layers')
      // names relative to the directory of the layers: the options of mount(2) end after 4095 bytes
      const lower = lowerdir.map((path) => path.slice(layers.length + 1)).join(':')
      return {
        isSync: false,
        compose({ upperdir, workdir, target }) {
          const options = `lowerdir=${lower},upperdir=${upperdir},workdir=${workdir}`
          return run(layers, 'mount', '-n', '-t', 'overlay', '-o', options, 'overlay', target).then(
            () => target,
          )
        },
        teardown: (target) => run(layers, 'umount', '-n', '-l', target),
        idle() {},
        close() {},
      }
    }),
}

/**
 * @param {string} cwd
 * @param {string} program
 * @param {...string} args
 * @returns {Promise<void>}
 */
function run(cwd, program, ...args) {
  // libmount from 2.39 on would give fsconfig all layers as one string, of which it takes 255 bytes
  const env = { ...process.env, LIBMOUNT_FORCE_MOUNT2: 'always' }
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, env, stdio: 'ignore' })
    child.on('error', reject)
    child.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`${program}: exit code ${code}`))))
  })
}
