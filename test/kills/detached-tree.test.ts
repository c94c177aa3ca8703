/** Lives of rung detached-tree that are cut short: sweeps.ts. */
import { sweeps } from './sweeps.js'

sweeps('detached-tree', [
  'mount',
  'own mapping',
  'detached',
  'many',
  'move',
  'inside',
  'leave inside',
  'bind',
])
