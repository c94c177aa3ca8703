/**
 * Where the threads of the lock benchmark sit: the distances between CPUs that this machine has, nearest first.
 *
 * Pure over a topology, so that other machines can be asked too. Of each core one CPU is taken, except where SMT
 * siblings are what is measured. Neighbours in the order are as far apart as the placement says: with two threads each
 * handoff has that distance, with more of them most do.
 */

/**
 * @typedef {import('../../dist/index.js').Topology} Topology
 * @typedef {{ name: string, cpus: number[] }} Placement `cpus` in the order in which threads are added
 * @typedef {{ name: string, reason: string }} Missing
 */

/**
 * @param {Topology} topology
 * @returns {{ placements: Placement[], missing: Missing[] }} what this machine has, and what it has not
 */
export const placementsOf = (topology) => {
  const mayUse = new Set(topology.allowed.cpus)
  const cores = topology.cores
    .map((core) => ({ ...core, cpus: core.cpus.filter((cpu) => mayUse.has(cpu)) }))
    .filter(({ cpus }) => cpus.length > 0)
  const packages = groups(cores, (core) => core.package)
  const all = [
    siblings(cores),
    together(cores),
    apart(
      'other L3 cache',
      packages,
      (core) => core.l3Domain,
      'no socket has two L3 caches with CPUs that may be used',
    ),
    apart(
      'other NUMA node of the socket',
      packages,
      (core) => core.node,
      'no socket has two NUMA nodes with CPUs that may be used',
    ),
    apart('other socket', [cores], (core) => core.package, 'CPUs of one socket only may be used'),
  ]
  return {
    placements: all.filter((each) => 'cpus' in each),
    missing: all.filter((each) => 'reason' in each),
  }
}

/** 1, 2, 4, … and all of them. @param {Placement} placement @param {number} first */
export const threadCounts = ({ cpus }, first = 2) => {
  const counts = []
  for (let count = first; count < cpus.length; count *= 2) counts.push(count)
  return [...counts, cpus.length]
}

const siblings = (cores) => {
  const name = 'SMT siblings'
  const most = largest(cores.map(({ cpus }) => cpus))
  return most.length > 1 ? { name, cpus: most } : { name, reason: 'no core has two CPUs that may be used' }
}

const together = (cores) => {
  const name = 'same L3 cache'
  const cpus = largest(groups(cores, (core) => core.l3Domain)).map((core) => core.cpus[0])
  return cpus.length > 1 ? { name, cpus } : { name, reason: 'no L3 cache has two cores that may be used' }
}

/** Of the one of `places` that has the most parts: a core of each part in turns. */
const apart = (name, places, partOf, reason) => {
  const parts = largest(places.map((cores) => groups(cores, partOf)))
  return parts.length > 1 ? { name, cpus: inTurns(parts).map((core) => core.cpus[0]) } : { name, reason }
}

const inTurns = (parts) =>
  Array.from({ length: largest(parts).length }, (_, i) =>
    parts.flatMap((part) => part.slice(i, i + 1)),
  ).flat()

/** By first appearance, which is by CPU number. */
const groups = (cores, keyOf) => {
  const found = new Map()
  for (const core of cores) {
    const key = keyOf(core)
    if (key === undefined) continue
    if (!found.has(key)) found.set(key, [])
    found.get(key).push(core)
  }
  return [...found.values()]
}

const largest = (lists) => lists.reduce((most, list) => (list.length > most.length ? list : most), [])
