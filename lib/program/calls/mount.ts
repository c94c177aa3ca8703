/** Steps by mount(2) and umount2(2). */
import * as f from '../../flags.js'
import type { Step, Text } from '../step.js'
import { type Extra, int, nothing, text } from './args.js'

/** mount(source, target, type, flags, data) */
export const mount = (
  source: Text | null,
  target: Text,
  type: string | null,
  flags: number,
  data: Text | null,
  extra?: Extra,
): Step => ({
  call: 'mount',
  args: [
    source === null ? nothing : text(source),
    text(target),
    type === null ? nothing : text(type),
    int(flags, 'MS'),
    data === null ? nothing : text(data),
  ],
  ...extra,
})

/** umount2(target, MNT_DETACH or 0, | UMOUNT_NOFOLLOW) */
export const umount = (target: Text, lazy: boolean, nofollow = true, extra?: Extra): Step => ({
  call: 'umount2',
  args: [text(target), int((lazy ? f.MNT_DETACH : 0) | (nofollow ? f.UMOUNT_NOFOLLOW : 0), 'MNT UMOUNT')],
  ...extra,
})
