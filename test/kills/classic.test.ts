/** Lives of rung classic that are cut short: sweeps.ts. */
import { sweeps } from './sweeps.js'

sweeps('classic', ['mount', 'many', 'move', 'group', 'bind', 'tmpfs'])
