/** Lives of rung staged that are cut short: sweeps.ts. */
import { sweeps } from './sweeps.js'

sweeps('staged', ['mount', 'own mapping', 'inside'])
