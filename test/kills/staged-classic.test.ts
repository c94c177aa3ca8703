/** Lives of rung staged-classic that are cut short: sweeps.ts. */
import { sweeps } from './sweeps.js'

sweeps('staged-classic', ['mount', 'own mapping', 'detached'])
