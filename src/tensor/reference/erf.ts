// The error function in double precision, slow and obvious: a series near zero, a continued fraction in the tails.

const terms = 60

/** erf(x), within 1e-15: Abramowitz and Stegun 7.1.6 (a series of positive terms) below 2, 7.1.14 (a continued fraction) above. */
export function erf(x: number): number {
  const magnitude = Math.abs(x)
  return magnitude < 2 ? series(x) : Math.sign(x) * (1 - complement(magnitude))
}

function series(x: number): number {
  let sum = 0
  let term = 1
  for (let n = 0; n < terms; n++) {
    sum += term
    term *= (2 * x * x) / (2 * n + 3)
  }
  return ((x * 2) / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum
}

function complement(x: number): number {
  let denominator = x
  for (let k = terms; k >= 1; k--) denominator = x + k / 2 / denominator
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / denominator
}
