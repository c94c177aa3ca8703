/**
 * The scalability law against curves whose coefficients are known, with and without noise, and against points
 * from which nothing can be told: those must not be given a peak.
 */
import { assert, double, integer, property, tuple } from 'fast-check'
import t from 'tap'

interface Law {
  lambda: number
  sigma: number
  kappa: number
}
interface Point {
  concurrency: number
  throughput: number
}
interface Fit extends Law {
  isFitted: true
  rSquared: number
  isTrusted: boolean
  from: number
  to: number
  peak: { concurrency: number; throughput: number; isExtrapolated: boolean }
}
interface Usl {
  fitScalability(points: readonly Point[]): Fit | { isFitted: false; reason: string }
  describeFit(fit: ReturnType<Usl['fitScalability']>): string
  curve(fit: Fit, count?: number): Point[]
  describeScalability(points: readonly Point[], fit: ReturnType<Usl['fitScalability']>): string
  predict(law: Law, concurrency: number): number
}
const { fitScalability, describeFit, describeScalability, curve, predict }: Usl = await import(
  new URL('../../bench/usl.mjs', import.meta.url).href
)

const concurrencies = [1, 2, 4, 8, 16, 32, 64]

/** A factor for each point, in turns above and below. */
const points = (law: Law, at = concurrencies, noise: readonly number[] = []): Point[] =>
  at.map((concurrency, i) => ({
    concurrency,
    throughput: predict(law, concurrency) * (1 + (noise[i] ?? 0)),
  }))

const fitted = (given: readonly Point[]): Fit => {
  const fit = fitScalability(given)
  if (!fit.isFitted) throw new Error(fit.reason)
  return fit
}

const isNear = (value: number, expected: number, share: number): boolean =>
  Math.abs(value - expected) <= share * Math.max(Math.abs(expected), 1e-9)

t.test('coefficients that made a curve are found again', (t) => {
  const law = { lambda: 1000, sigma: 0.05, kappa: 0.001 }
  const fit = fitted(points(law))
  for (const name of ['lambda', 'sigma', 'kappa'] as const)
    t.ok(isNear(fit[name], law[name], 0.001), `${name} ${fit[name]}`)
  t.ok(isNear(fit.peak.concurrency, Math.sqrt(0.95 / 0.001), 0.001), 'the peak is where its formula says')
  t.ok(isNear(fit.peak.throughput, predict(law, fit.peak.concurrency), 0.001))
  t.equal(fit.peak.isExtrapolated, false)
  t.ok(fit.isTrusted && fit.rSquared > 0.999999)
  t.match(describeFit(fit), /^Best by the law: 9,038\/s at a concurrency of 31 /)
  t.end()
})

t.test('whatever the coefficients, and in whatever order the points come', (t) => {
  assert(
    property(
      double({ min: 0.1, max: 1e7, noNaN: true }),
      double({ min: 0, max: 0.95, noNaN: true }),
      double({ min: 1e-4, max: 0.1, noNaN: true }),
      integer({ min: 0, max: 6 }),
      (lambda, sigma, kappa, turn) => {
        const given = points({ lambda, sigma, kappa })
        const fit = fitted([...given.slice(turn), ...given.slice(0, turn)])
        return (
          given.every(({ concurrency, throughput }) => isNear(predict(fit, concurrency), throughput, 1e-3)) &&
          isNear(fit.lambda, lambda, 0.01) &&
          isNear(fit.peak.concurrency, Math.max(1, Math.sqrt((1 - sigma) / kappa)), 0.02)
        )
      },
    ),
    { numRuns: 150 },
  )
  t.end()
})

t.test('with noise of 5 %, the peak is near its place, and no coefficient is below zero', (t) => {
  const share = double({ min: -0.05, max: 0.05, noNaN: true })
  assert(
    property(tuple(share, share, share, share, share, share, share), (noise) => {
      const law = { lambda: 500, sigma: 0.1, kappa: 0.003 }
      const fit = fitted(points(law, concurrencies, noise))
      const [found, real] = [fit.peak.concurrency, Math.sqrt(0.9 / 0.003)]
      return fit.sigma >= 0 && fit.kappa >= 0 && found > real / 1.5 && found < real * 1.5
    }),
    { numRuns: 150 },
  )
  t.end()
})

t.test('without coherence cost there is a ceiling and no peak', (t) => {
  const fit = fitted(points({ lambda: 100, sigma: 0.2, kappa: 0 }))
  t.equal(fit.peak.concurrency, Infinity)
  t.ok(isNear(fit.peak.throughput, 500, 0.001))
  t.equal(fit.peak.isExtrapolated, true)
  t.match(describeFit(fit), /no peak between 1 and 64, and a ceiling of 500\/s by the law/)
  const linear = fitted(points({ lambda: 100, sigma: 0, kappa: 0 }))
  t.same([linear.sigma, linear.kappa, linear.peak.throughput], [0, 0, Infinity])
  t.match(describeFit(linear), /and no ceiling/)
  t.end()
})

t.test('what grows faster than its concurrency gets no coefficient below zero', (t) => {
  const fit = fitted(
    concurrencies.map((concurrency) => ({ concurrency, throughput: 100 * concurrency ** 1.1 })),
  )
  t.strictSame([fit.sigma, fit.kappa], [0, 0])
  t.end()
})

t.test('a peak beyond what was measured is said to be extrapolated', (t) => {
  const fit = fitted(points({ lambda: 100, sigma: 0.01, kappa: 0.0001 }, [1, 2, 4, 8, 16]))
  t.ok(fit.peak.concurrency > 90)
  t.equal(fit.peak.isExtrapolated, true)
  t.match(describeFit(fit), /^No peak between 1 and 16; .* extrapolated and was not measured/)
  t.end()
})

t.test('throughput that only falls has its peak at one', (t) => {
  const fit = fitted(points({ lambda: 100, sigma: 1.5, kappa: 0.01 }))
  t.equal(fit.peak.concurrency, 1)
  t.ok(isNear(fit.peak.throughput, 100, 0.001))
  t.end()
})

t.test('points that say nothing get no peak', (t) => {
  const level = concurrencies.map((concurrency) => ({ concurrency, throughput: 2000 }))
  for (const [given, reason] of [
    [[], /4 different concurrencies, and there are 0/],
    [points({ lambda: 1, sigma: 0, kappa: 0 }, [1, 2, 4]), /there are 3/],
    [points({ lambda: 1, sigma: 0, kappa: 0 }, [1, 1, 2, 2, 4, 4]), /there are 3/],
    [level, /the same at every concurrency/],
  ] as const) {
    const fit = fitScalability(given)
    t.equal(fit.isFitted, false)
    if (!fit.isFitted) t.match(fit.reason, reason)
    t.notOk('peak' in fit)
    t.match(describeFit(fit), /^No law fitted: /)
  }
  const erratic = [10, 1000, 10, 1000, 10, 1000, 10].map((throughput, i) => ({
    concurrency: concurrencies[i]!,
    throughput,
  }))
  t.equal(fitted(erratic).isTrusted, false)
  t.match(describeFit(fitted(erratic)), /nothing is read off it/)
  t.end()
})

t.test('what was measured is told beside the law', (t) => {
  const given = points({ lambda: 1000, sigma: 0.05, kappa: 0.001 })
  t.match(
    describeScalability(given, fitScalability(given)),
    /^Best measured: .*\/s at a concurrency of 32\. Best by/,
  )
  t.match(
    describeScalability(given.slice(0, 2), fitScalability(given.slice(0, 2))),
    /concurrency of 2\. No law fitted/,
  )
  t.equal(describeScalability([], fitScalability([])), 'Nothing was measured.')
  t.end()
})

t.test('what is no measurement is refused by name', (t) => {
  for (const throughput of [0, -1, Number.NaN, Infinity])
    t.throws(() => fitScalability([{ concurrency: 1, throughput }]), {
      name: 'RangeError',
      message: `points: throughput must be a positive number, received ${throughput}`,
    })
  for (const concurrency of [0, -1, Number.NaN, Infinity])
    t.throws(() => fitScalability([{ concurrency, throughput: 1 }]), {
      name: 'RangeError',
      message: `points: concurrency must be a number of at least 1, received ${concurrency}`,
    })
  t.end()
})

t.test('the curve to draw stays within what was measured', (t) => {
  const drawn = curve(fitted(points({ lambda: 100, sigma: 0.1, kappa: 0.01 })), 10)
  t.equal(drawn.length, 10)
  t.same([drawn[0]?.concurrency, drawn.at(-1)?.concurrency], [1, 64])
  t.ok(isNear(drawn.at(-1)!.throughput, predict({ lambda: 100, sigma: 0.1, kappa: 0.01 }, 64), 0.001))
  t.end()
})
