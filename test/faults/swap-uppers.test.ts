import { isSupervised } from './supervised.js'

if (isSupervised(import.meta.url)) (await import('./upper-swaps.js')).sweepUppers()
