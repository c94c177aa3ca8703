/** Ends at every stage under Node 20: sweeps.ts. */
import { sweeps } from './sweeps.js'

sweeps('n20')
