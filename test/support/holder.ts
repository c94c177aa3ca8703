/** A mount namespace of somebody else, with this one's mounts: the process that holds it, until it is ended. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'

export interface Holder {
  readonly pid: number
  end(): Promise<void>
}

export const startHolder = async (): Promise<Holder> => {
  const child = spawn('unshare', ['-m', '--propagation', 'private', 'sh', '-c', 'echo; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  await once(child.stdout, 'data')
  return {
    pid: child.pid as number,
    async end() {
      child.kill('SIGKILL')
      await ended
    },
  }
}
