/**
 * What is known of the kernels by their release, which lib/ never asks for: so that a probe that finds too much or
 * too little fails, instead of taking another rung.
 */
import { release } from 'node:os'
import { type RungName, rungs } from '../../lib/index.js'

const [major = 0, minor = 0] = release().split('.').map(Number)

/** Whether the running kernel is of that release or later. */
export const isSince = (version: string): boolean => {
  const [wantedMajor = 0, wantedMinor = 0] = version.split('.').map(Number)
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)
}

/** The first kernel with each feature that the three kernels differ in; those of all of them are since 5.12. */
export const since = {
  openTree: '5.2',
  mountSetattr: '5.12',
  openat2: '5.6',
  fsContext: '5.2',
  mountNamespaces: '3.8',
  appendLayers: '6.7',
  layersByFd: '6.13',
  openTreeAttr: '6.15',
  detachedLayers: '6.15',
  uniqueMountId: '6.8',
  overlayOptions: '6.5',
  erofsImages: '6.12',
} as const

/** What each rung needs of these, by docs/kernel-features.md. */
export const needs: Readonly<Record<RungName, readonly (keyof typeof since)[]>> = {
  'detached-tree': ['detachedLayers', 'appendLayers', 'layersByFd'],
  direct: ['appendLayers'],
  staged: ['appendLayers'],
  'staged-classic': [],
  classic: [],
}

export const missingFor = (rung: RungName): string[] => needs[rung].filter((name) => !isSince(since[name]))

export const serving = rungs.filter((rung) => missingFor(rung).length === 0)
