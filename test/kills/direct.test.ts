/** Lives of rung direct that are cut short: sweeps.ts. */
import { sweeps } from './sweeps.js'

sweeps('direct', ['mount', 'detached', 'group', 'bind', 'tmpfs'])
