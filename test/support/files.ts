/**
 * What a file system says of a file beyond stat(2): extended attributes, fsid, extents, handles. By python and
 * coreutils, so that a fault in the addon is not in the scaffold too.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'

const python = (script: string, ...args: string[]): string =>
  execFileSync('python3', ['-c', script, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

/** Extended attributes of a file itself, by name; values as latin1. */
export const xattrsOf = (path: string): Record<string, string> => {
  const script = `import os,sys,json
p=sys.argv[1]
print(json.dumps({n:os.getxattr(p,n,follow_symlinks=False).decode('latin1') for n in os.listxattr(p,follow_symlinks=False)}))`
  return JSON.parse(python(script, path)) as Record<string, string>
}

/** f_fsid of statfs(2), in hexadecimal. */
export const fsidOf = (path: string): string =>
  execFileSync('stat', ['-f', '-c', '%i', path], { encoding: 'utf8' }).trim()

/**
 * Reads a file of a mount by its handle: name_to_handle_at(2), open_by_handle_at(2). Gives what is in it, or the
 * errno's name of the first call that fails.
 */
export const readByHandle = (mount: string, name: string): string => {
  const script = `import ctypes,os,sys,errno
libc=ctypes.CDLL(None,use_errno=True)
class H(ctypes.Structure):
    _fields_=[('bytes',ctypes.c_uint),('type',ctypes.c_int),('h',ctypes.c_ubyte*128)]
h=H(128,0); i=ctypes.c_int(); m=os.open(sys.argv[1],os.O_RDONLY)
def check(r):
    if r<0: print(errno.errorcode[ctypes.get_errno()],end=''); sys.exit(0)
    return r
check(libc.name_to_handle_at(m,sys.argv[2].encode(),ctypes.byref(h),ctypes.byref(i),0))
fd=check(libc.open_by_handle_at(m,ctypes.byref(h),os.O_RDONLY))
print(os.read(fd,4096).decode(),end='')`
  return python(script, mount, name)
}

/** Whether all that was written to a file of ext4 has reached its device: nothing of it waits to be allocated. */
export const isWrittenOut = (path: string): boolean =>
  !execFileSync('filefrag', ['-v', path], {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` },
  }).includes('delalloc')

/** How many transactions the journal of an ext4 on this device has begun: an fsync(2) of metadata begins one. */
export const transactions = (device: string): number => {
  const info = readFileSync(`/proc/fs/jbd2/${basename(device)}-8/info`, 'utf8')
  return Number(/^(\d+) transactions/.exec(info)?.[1])
}
