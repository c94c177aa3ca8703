/**
 * Gunther's Universal Scalability Law, fitted to measured throughput:
 *
 *   X(N) = λN / (1 + σ(N−1) + κN(N−1))
 *
 * λ is the throughput of one, σ the share of the work that is done one after the other (contention), κ what each
 * pays for each other (coherence). With κ > 0 there is a concurrency from which more makes it slower, the peak; with
 * κ = 0 there is only a ceiling, λ/σ. A fit says little by itself: few points, a level curve or a peak beyond the last
 * point are told as such, and no peak is made up for them.
 */
import { levenbergMarquardt } from 'ml-levenberg-marquardt'
import { format } from './support/statistics.mjs'

/** Three unknowns take three points; one more, and the fit can be wrong and show it. */
const FEWEST = 4
/** Below this share of the variation explained, nothing is read off the curve. */
const TRUSTED = 0.7

/**
 * @typedef {{ concurrency: number, throughput: number }} Point
 * @typedef {{
 *   isFitted: true, lambda: number, sigma: number, kappa: number, rSquared: number, isTrusted: boolean,
 *   from: number, to: number,
 *   peak: { concurrency: number, throughput: number, isExtrapolated: boolean },
 * }} Fit `from`, `to`: what was measured. A peak at infinity is a ceiling, which its throughput is; JSON has null there
 * @typedef {{ isFitted: false, reason: string }} NoFit
 */

/** @param {{ lambda: number, sigma: number, kappa: number }} law */
export const predict = ({ lambda, sigma, kappa }, concurrency) =>
  (lambda * concurrency) / (1 + sigma * (concurrency - 1) + kappa * concurrency * (concurrency - 1))

/**
 * @param {readonly Point[]} points in any order, several of one concurrency are fine
 * @returns {Fit | NoFit}
 */
export const fitScalability = (points) => {
  for (const { concurrency, throughput } of points) check(concurrency, throughput)
  const reason = whyNot(points)
  if (reason !== undefined) return { isFitted: false, reason }

  const concurrencies = points.map(({ concurrency }) => concurrency)
  const throughputs = points.map(({ throughput }) => throughput)
  const [from, to] = [Math.min(...concurrencies), Math.max(...concurrencies)]
  const { values, error } = leastSquares(concurrencies, throughputs)
  const law = { lambda: values[0], sigma: values[1], kappa: values[2] }
  const mean = throughputs.reduce((sum, each) => sum + each, 0) / points.length
  const variation = throughputs.reduce((sum, each) => sum + (each - mean) ** 2, 0)
  const peak = peakOf(law)
  const rSquared = 1 - error / variation
  return {
    isFitted: true,
    ...law,
    rSquared,
    isTrusted: rSquared >= TRUSTED,
    from,
    to,
    peak: { ...peak, isExtrapolated: peak.concurrency > to || peak.concurrency < from },
  }
}

/** What a fit says about the best concurrency, in a sentence or two. @param {Fit | NoFit} fit */
export const describeFit = (fit) => {
  if (!fit.isFitted) return `No law fitted: ${fit.reason}.`
  const { sigma, kappa, rSquared, isTrusted, from, to, peak } = fit
  const explained = `R² ${rSquared.toFixed(2)}`
  if (!isTrusted) {
    return `The law does not describe these points (${explained}): nothing is read off it.`
  }
  const law = `σ ${short(sigma)}, κ ${short(kappa)}, ${explained}`
  if (!Number.isFinite(peak.concurrency)) {
    const ceiling = Number.isFinite(peak.throughput) ? `a ceiling of ${perSecond(peak)}` : 'no ceiling'
    return `More is never slower: no peak between ${from} and ${to}, and ${ceiling} by the law (${law}).`
  }
  const where = `${perSecond(peak)} at a concurrency of ${short(peak.concurrency)}`
  return peak.isExtrapolated
    ? `No peak between ${from} and ${to}; the law has one at ${short(peak.concurrency)}, which is extrapolated and was not measured (${law}).`
    : `Best by the law: ${where} (${law}).`
}

/** The best of what was measured, and what the law makes of it. @param {readonly Point[]} points @param {Fit | NoFit} fit */
export const describeScalability = (points, fit) => {
  if (points.length === 0) return 'Nothing was measured.'
  const best = points.reduce((most, point) => (point.throughput > most.throughput ? point : most))
  return `Best measured: ${perSecond(best)} at a concurrency of ${best.concurrency}. ${describeFit(fit)}`
}

/** The curve, evenly spaced for a logarithmic axis, within what was measured. @param {Fit} fit @returns {Point[]} */
export const curve = (fit, count = 40) =>
  Array.from({ length: count }, (_, i) => {
    const concurrency = fit.from * (fit.to / fit.from) ** (i / (count - 1))
    return { concurrency, throughput: predict(fit, concurrency) }
  })

const check = (concurrency, throughput) => {
  if (!(Number.isFinite(concurrency) && concurrency >= 1)) {
    throw new RangeError(`points: concurrency must be a number of at least 1, received ${concurrency}`)
  }
  if (!(Number.isFinite(throughput) && throughput > 0)) {
    throw new RangeError(`points: throughput must be a positive number, received ${throughput}`)
  }
}

const whyNot = (points) => {
  const distinct = new Set(points.map(({ concurrency }) => concurrency)).size
  if (distinct < FEWEST) {
    return `it takes ${FEWEST} different concurrencies, and there are ${distinct}`
  }
  const { min, max } = points.reduce(
    ({ min, max }, { throughput }) => ({ min: Math.min(min, throughput), max: Math.max(max, throughput) }),
    { min: Infinity, max: 0 },
  )
  // nothing to explain; σ would be 1 and the peak anywhere
  if (max - min < 1e-6 * max) return 'throughput is the same at every concurrency'
  return undefined
}

/**
 * λ, σ and κ of the least squared error. They are scaled to the size of 1, which the method's damping takes for
 * granted. It is run on each face of the bounds too (σ = 0, κ = 0, both), because a step that is cut at a bound may
 * end where it should not; of equally good ones the simplest wins.
 */
const leastSquares = (x, y) => {
  const [height, width] = [Math.max(...y), Math.max(...x)]
  const scaled = { x, y: y.map((value) => value / height) }
  const unscale = ([lambda, sigma, kappa]) => [lambda * height, sigma / width, kappa / width ** 2]
  const total = scaled.y.reduce((sum, value) => sum + value ** 2, 0)
  let best
  for (const free of [[], [1], [2], [1, 2]]) {
    const { parameterValues, parameterError } = levenbergMarquardt(
      scaled,
      ([lambda, sigma, kappa]) => {
        const law = { lambda, sigma: sigma / width, kappa: kappa / width ** 2 }
        return (concurrency) => predict(law, concurrency)
      },
      {
        initialValues: [scaled.y[x.indexOf(Math.min(...x))] / Math.min(...x), 1, 1].map((value, i) =>
          i === 0 || free.includes(i) ? value : 0,
        ),
        minValues: [0, 0, 0],
        // a step of 0 holds a parameter where it is
        gradientDifference: [1e-6, free.includes(1) ? 1e-6 : 0, free.includes(2) ? 1e-6 : 0],
        centralDifference: true,
        errorTolerance: 0,
        maxIterations: 300,
      },
    )
    if (best === undefined || parameterError < best.error - 1e-9 * total) {
      best = { values: parameterValues, error: parameterError }
    }
  }
  return { values: unscale(best.values), error: best.error * height ** 2 }
}

const peakOf = (law) => {
  const { lambda, sigma, kappa } = law
  if (kappa === 0 && sigma <= 1)
    return { concurrency: Infinity, throughput: sigma > 0 ? lambda / sigma : Infinity }
  const concurrency = sigma < 1 ? Math.max(1, Math.sqrt((1 - sigma) / kappa)) : 1
  return { concurrency, throughput: predict(law, concurrency) }
}

const short = (value) => Number(value.toPrecision(2)).toString()
const perSecond = ({ throughput }) => `${format(throughput)}/s`
