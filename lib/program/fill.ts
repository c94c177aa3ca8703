/**
 * Plans with holes: a plan that is made once for all mounts of a kind, and what each of them puts in.
 *
 * The addon fills holes itself, from bytes; here they are filled for people, in what is printed of a step.
 */
import { Plan } from './plan.js'
import { type Arg, type Fill, type Hole, isHole, type Step, type Text, type TextPart } from './step.js'

type Fills = readonly Fill[]

/** The step as it was run. A step without holes is answered itself. */
export function fillStep(step: Step, fills: Fills): Step {
  const hole = step.subject?.hole
  const args = step.args.some(hasHole) ? step.args.map((arg) => fillArg(arg, fills)) : step.args
  const expect = step.expect?.some(({ value }) => isHole(value))
    ? step.expect.map((each) =>
        isHole(each.value) ? { ...each, value: fills[each.value.hole] as bigint } : each,
      )
    : step.expect
  const subject = hole ? { option: step.subject!.option, path: textIn(hole, fills) } : step.subject
  if (args === step.args && expect === step.expect && subject === step.subject) return step
  return { ...step, args, ...(expect && { expect }), ...(subject && { subject }) }
}

/** The plan as it is run with these fills. */
export function fillPlan(plan: Plan, fills: Fills): Plan {
  if (plan.holes === 0) return plan
  const filled = new Map<Step, Step>()
  const parts = plan.parts.map((part) =>
    part.map((step) => {
      const { ifDone, ...rest } = fillStep(step, fills)
      const whole = ifDone ? { ...rest, ifDone: filled.get(ifDone) ?? ifDone } : rest
      filled.set(step, whole)
      return whole
    }),
  )
  return new Plan({ ...plan, parts, holes: 0 })
}

function hasHole(arg: Arg): boolean {
  if (arg.kind === 'int') return isHole(arg.value)
  if (arg.kind !== 'text') return false
  return isHole(arg.text) || (Array.isArray(arg.text) && arg.text.some(isHole))
}

function fillArg(arg: Arg, fills: Fills): Arg {
  if (arg.kind === 'int' && isHole(arg.value)) return { ...arg, value: fills[arg.value.hole] as bigint }
  if (arg.kind !== 'text') return arg
  const { text } = arg
  if (isHole(text)) return { ...arg, text: textIn(text, fills) }
  if (!Array.isArray(text)) return arg
  const parts = text as readonly TextPart[]
  return { ...arg, text: parts.map((part) => (isHole(part) ? textIn(part, fills) : part)) as Text }
}

const textIn = ({ hole }: Hole, fills: Fills) => fills[hole] as Uint8Array | string
