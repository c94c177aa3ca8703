import { isSupervised } from './supervised.js'

if (isSupervised(import.meta.url)) (await import('./change-swaps.js')).sweepChanges()
