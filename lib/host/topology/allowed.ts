/**
 * The CPUs that this process may use: the affinity of the calling thread, and the cpuset of its cgroup.
 *
 * The affinity says where it may run now, and may be widened again by the process itself (sched_setaffinity(2));
 * the cpuset is the limit of that. A cgroup's effective CPUs are what the limits of all its ancestors have left,
 * and a cgroup without files of its own has those of the nearest ancestor that has them. Ancestors above that one
 * are not asked: since Linux 5.0 a cgroup may own CPUs for itself alone (cpuset.cpus.partition), which its
 * ancestors' effective CPUs lack.
 *
 * A controller is in one hierarchy at a time, so a line of /proc/PID/cgroup with cpuset in it (v1) is the answer
 * also where a v2 hierarchy is mounted beside it. The directory is found through mountinfo, for a container may
 * see its own part of the hierarchy only, anywhere.
 *
 * @see cgroups(7), cpuset(7), cgroup_namespaces(7), proc_pid_mountinfo(5)
 */
import type { AllowedCpus, Cpuset } from '../topology.js'
import { formatCpuList, parseCpuList } from './cpu-list.js'
import type { Tree } from './tree.js'

/** Of the calling thread: affinity and, in v1 and in threaded v2 cgroups, also the cgroup may be its own. */
const processFile = (tree: Tree, name: string): string | undefined =>
  tree.text(`/proc/thread-self/${name}`) ?? tree.text(`/proc/self/${name}`)

export function readAffinity(tree: Tree): number[] | undefined {
  const list = /^Cpus_allowed_list:[ \t]*(.*)$/m.exec(processFile(tree, 'status') ?? '')?.[1]
  const affinity = list === undefined ? undefined : parseCpuList(list)
  if (affinity === undefined) tree.notes.push('the affinity is unknown')
  return affinity
}

export function readAllowed(
  tree: Tree,
  online: readonly number[],
  affinity: readonly number[] | undefined,
): AllowedCpus {
  const cpuset = readCpuset(tree)
  const within = (limit: readonly number[] | undefined, cpus: readonly number[]): readonly number[] => {
    const set = limit && new Set(limit)
    return set === undefined ? cpus : cpus.filter((cpu) => set.has(cpu))
  }
  const byAffinity = within(affinity, online)
  const cpus = within(cpuset?.cpus, byAffinity)
  // each was read at another moment; the kernel keeps the affinity within the cpuset
  if (cpus.length === 0 && byAffinity.length > 0) {
    tree.notes.push(
      `affinity and cpuset have no CPU in common: of ${formatCpuList(byAffinity)} and ` +
        `${formatCpuList(cpuset?.cpus ?? [])}, the affinity is taken`,
    )
    return { cpus: byAffinity, affinity, cpuset }
  }
  return { cpus, affinity, cpuset }
}

interface Hierarchy {
  readonly version: 1 | 2
  readonly cgroup: string
}

function readCpuset(tree: Tree): Cpuset | undefined {
  const hierarchy = hierarchyOf(processFile(tree, 'cgroup') ?? '')
  if (hierarchy === undefined) {
    tree.notes.push('the cgroup is unknown')
    return undefined
  }
  const { version, cgroup } = hierarchy
  const mounts = cgroupMounts(processFile(tree, 'mountinfo') ?? '', version)
  for (const mount of mounts) {
    const below = relativeTo(mount.root, cgroup)
    for (
      let names = below;
      names !== undefined;
      names = names.length === 0 ? undefined : names.slice(0, -1)
    ) {
      const dir = [mount.target, ...names].join('/')
      const cpus = effectiveCpus(tree, dir, version)
      if (cpus === undefined) continue
      const path = [mount.root === '/' ? '' : mount.root, ...names].join('/') || '/'
      return { version, cgroup: Buffer.from(path, 'latin1').toString(), cpus }
    }
  }
  const where = mounts.length === 0 ? 'its hierarchy is not mounted' : 'no mount shows its limit'
  tree.notes.push(`the cpuset of cgroup ${Buffer.from(cgroup, 'latin1')} (v${version}) is unknown: ${where}`)
  return undefined
}

/** `3:cpuset,cpu:/a/b`, or `0::/a/b` for v2. A name may hold colons. */
function hierarchyOf(text: string): Hierarchy | undefined {
  let unified: Hierarchy | undefined
  for (const line of text.split('\n')) {
    const [, id, controllers, cgroup] = /^(\d+):([^:]*):(\/.*)$/.exec(line) ?? []
    if (cgroup === undefined) continue
    if (controllers?.split(',').includes('cpuset')) return { version: 1, cgroup }
    if (id === '0' && controllers === '') unified = { version: 2, cgroup }
  }
  return unified
}

/** Empty in v1 where nothing was configured, and in a partition that gave all its CPUs away: no limit for anyone. */
function effectiveCpus(tree: Tree, dir: string, version: 1 | 2): number[] | undefined {
  const files = version === 2 ? ['cpuset.cpus.effective'] : ['cpuset.effective_cpus', 'cpuset.cpus']
  const cpus = tree.list(...files.map((file) => `${dir}/${file}`))
  return cpus?.length === 0 ? undefined : cpus
}

interface CgroupMount {
  /** the cgroup that is at the mount's top */
  readonly root: string
  readonly target: string
}

const unescaped = (field: string): string =>
  field.replace(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))

/** Mounts of the hierarchy that has cpusets: `36 35 0:31 /root /target attributes … - cgroup source options`. */
function cgroupMounts(mountinfo: string, version: 1 | 2): CgroupMount[] {
  // of a hundred thousand mounts these are a few
  const lines = mountinfo.split('\n').filter((line) => line.includes(' - cgroup'))
  return lines.flatMap((line) => {
    const [mount = '', superblock = ''] = line.split(' - ')
    const [, , , root, target] = mount.split(' ')
    const [type, , options] = superblock.split(' ')
    const isOurs =
      version === 2 ? type === 'cgroup2' : type === 'cgroup' && options?.split(',').includes('cpuset')
    return isOurs && root && target ? [{ root: unescaped(root), target: unescaped(target) }] : []
  })
}

/** The names that lead from one cgroup down to another; undefined if they do not, or cannot be known. */
function relativeTo(root: string, cgroup: string): string[] | undefined {
  const [above, below] = [root, cgroup].map((path) => path.split('/').filter((name) => name !== ''))
  // outside of the cgroup namespace paths are `/..` and do not tell the names
  if (above === undefined || below === undefined || [...above, ...below].includes('..')) return undefined
  return above.every((name, index) => name === below[index]) ? below.slice(above.length) : undefined
}
