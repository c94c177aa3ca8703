/** A filter of one call after the other, which answers ENOSYS; `/` is private. */
import t from 'tap'
import { all, privileged, programs } from '../support/needs.js'
import { filtersOf } from './cases.js'
import { driveFilters } from './drive.js'

t.test('ENOSYS', all(privileged, programs('unshare', 'mount', 'mkfs.erofs')), (t) =>
  driveFilters(t, filtersOf('ENOSYS'), 'private'),
)
