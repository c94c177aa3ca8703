/** Steps about a filesystem context: fsopen(2) to fsmount(2), and a change of what is mounted. */
import * as f from '../../flags.js'
import type { FdArg, Slot, Step, Text } from '../step.js'
import { type Extra, fd, int, nothing, text } from './args.js'

/** fsopen(type, FSOPEN_CLOEXEC) */
export const fsopen = (out: Slot, type: string, extra?: Extra): Step => ({
  call: 'fsopen',
  args: [text(type), int(f.FSOPEN_CLOEXEC, 'FSOPEN')],
  out,
  ...extra,
})

/** fsconfig(fs, FSCONFIG_SET_FLAG, key, NULL, 0) */
export const setFlag = (fs: Slot, key: string, extra?: Extra): Step => ({
  call: 'fsconfig',
  args: [fd(fs), int(f.FSCONFIG_SET_FLAG, 'FSCONFIG'), text(key), nothing, int(0)],
  ...extra,
})

/** fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0): at most 255 bytes of value */
export const setString = (fs: Slot, key: string, value: Text, extra?: Extra): Step => ({
  call: 'fsconfig',
  args: [fd(fs), int(f.FSCONFIG_SET_STRING, 'FSCONFIG'), text(key), text(value), int(0)],
  ...extra,
})

/** fsconfig(fs, FSCONFIG_SET_FD, key, NULL, fd) */
export const setFd = (fs: Slot, key: string, value: FdArg, extra?: Extra): Step => ({
  call: 'fsconfig',
  args: [fd(fs), int(f.FSCONFIG_SET_FD, 'FSCONFIG'), text(key), nothing, fd(value)],
  ...extra,
})

/** fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) */
export const create = (fs: Slot, extra?: Extra): Step => ({
  call: 'fsconfig',
  args: [fd(fs), int(f.FSCONFIG_CMD_CREATE, 'FSCONFIG'), nothing, nothing, int(0)],
  ...extra,
})

/** fsmount(fs, FSMOUNT_CLOEXEC, attributes) */
export const fsmount = (out: Slot, fs: Slot, attributes: number, extra?: Extra): Step => ({
  call: 'fsmount',
  args: [fd(fs), int(f.FSMOUNT_CLOEXEC, 'FSMOUNT'), int(attributes, 'MOUNT_ATTR')],
  out,
  ...extra,
})

/** fspick(fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH): a context of the superblock that a mount shows */
export const fspick = (out: Slot, mount: FdArg, extra?: Extra): Step => ({
  call: 'fspick',
  args: [fd(mount), text(''), int(f.FSPICK_CLOEXEC | f.FSPICK_EMPTY_PATH, 'FSPICK')],
  out,
  ...extra,
})

/** fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) */
export const reconfigure = (fs: Slot, extra?: Extra): Step => ({
  call: 'fsconfig',
  args: [fd(fs), int(f.FSCONFIG_CMD_RECONFIGURE, 'FSCONFIG'), nothing, nothing, int(0)],
  ...extra,
})
