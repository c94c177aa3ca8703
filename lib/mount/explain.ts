/**
 * What `mountBind` and `mountTmpfs` would do: their plans in order, and what they cost. Nothing is done, and no right is
 * needed; a source that would have to be looked at first is taken to be a directory on a mount without attributes, which
 * is relatime.
 */
import { ST_RELATIME } from '../flags.js'
import type { Features } from '../host/features.js'
import type { RungChoice } from '../overlay/choose.js'
import { Explanation, mayNotMount } from '../overlay/explanation.js'
import { planDiscard } from '../overlay/reap.js'
import type { Plan } from '../program/plan.js'
import { type Known, type MadeMount, planBind } from './bind.js'
import { chooseWay, needOf, type Way } from './choose.js'
import { planBindClassic, planTmpfsClassic } from './classic.js'
import { planLook } from './make.js'
import type { BindSpec, TargetSpec, TmpfsSpec } from './spec.js'
import { planTmpfs } from './tmpfs.js'

function explain<S extends TargetSpec | BindSpec>(
  spec: S,
  found: Features,
  choice: RungChoice,
  plansOf: (way: Way, known: Known) => { readonly before: readonly Plan[]; readonly made: MadeMount },
): Explanation {
  const features = { ...found, mayMount: true }
  const { way, notes } = chooseWay(needOf(spec), features, choice)
  const known = { features, isDirectory: true, mountFlags: ST_RELATIME, parents: false, notes }
  const { before, made } = plansOf(way, known)
  const userns = made.outputs.filter((of) => of === 'userns').length
  const left = before.flatMap(({ outputs }) => outputs).length + userns
  const after = left > 0 ? [planDiscard({ fds: Array(left).fill(0) })] : []
  return new Explanation(way, [...before, made.plan, ...after], mayNotMount(found))
}

/** Explains a call of mountBind. */
export const explainBindSpec = (spec: BindSpec, features: Features, choice: RungChoice): Explanation =>
  explain(spec, features, choice, (way, known) => {
    if (!spec.create && way === 'direct') return { before: [], made: planBind(spec, known) }
    const { plan } = planLook(spec, features)
    const all = { ...known, sourceFd: 'fd' in spec.source ? spec.source.fd : -1 }
    return { before: [plan], made: way === 'classic' ? planBindClassic(spec, all) : planBind(spec, all) }
  })

/** Explains a call of mountTmpfs. */
export const explainTmpfsSpec = (spec: TmpfsSpec, features: Features, choice: RungChoice): Explanation =>
  explain(spec, features, choice, (way, known) => ({
    before: [],
    made: way === 'classic' ? planTmpfsClassic(spec, known) : planTmpfs(spec, known),
  }))
