/** The default profiles of container engines, with and without CAP_SYS_ADMIN. */
import t from 'tap'
import { all, privileged, programs } from '../support/needs.js'
import { profiles } from './cases.js'
import { driveFilters } from './drive.js'

t.test('default profiles', all(privileged, programs('unshare', 'mount', 'mkfs.erofs', 'setpriv')), (t) =>
  driveFilters(t, profiles, 'private'),
)
