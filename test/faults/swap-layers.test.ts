import { isSupervised } from './supervised.js'

if (isSupervised(import.meta.url)) (await import('./layer-swaps.js')).sweepLayers()
