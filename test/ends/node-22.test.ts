/** Ends at every stage under Node 22: sweeps.ts. */
import { sweeps } from './sweeps.js'

sweeps('n22')
