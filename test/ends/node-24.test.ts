/** Ends at every stage under Node 24: sweeps.ts. */
import { sweeps } from './sweeps.js'

sweeps('n24')
