/** Ends at every stage under Node 26: sweeps.ts. */
import { sweeps } from './sweeps.js'

sweeps('n26')
