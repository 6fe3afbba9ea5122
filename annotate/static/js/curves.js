// Numbers of curves: smoothing, ranges, ticks. Points are [x, y], in the order of x.

/** The running mean, without the pull of its start towards zero; `weight` 0 leaves it as it is. */
export function smooth(points, weight) {
  if (!weight) return points;
  let sum = 0;
  let share = 0;
  return points.map(([x, y]) => {
    sum = weight * sum + (1 - weight) * y;
    share = weight * share + (1 - weight);
    return [x, sum / share];
  });
}

/** The weight for so many points: the mean runs over an eighth of them at most, else it hides a short run. */
export const gentle = (weight, count) => Math.max(0, Math.min(weight, 1 - 8 / count));

/** At most about `most` points with the same outline: of each stretch its lowest and its highest. */
export function thin(points, most = 600) {
  const size = Math.ceil((2 * points.length) / most);
  if (size <= 2) return points;
  const kept = [];
  for (let at = 0; at < points.length; at += size) {
    const stretch = points.slice(at, at + size);
    const low = stretch.reduce((least, point) => (point[1] < least[1] ? point : least));
    const high = stretch.reduce((most, point) => (point[1] > most[1] ? point : most));
    kept.push(...(low[0] <= high[0] ? [low, high] : [high, low]));
  }
  return kept;
}

/** Lowest and highest y with a little air; `floor` and `ceiling` are kept to where they are given. */
export function range(points, { floor, ceiling } = {}) {
  const values = points.map(([, y]) => y);
  let low = floor ?? values.reduce((least, y) => Math.min(least, y), Infinity);
  let high = ceiling ?? values.reduce((most, y) => Math.max(most, y), -Infinity);
  if (!Number.isFinite(low) || !Number.isFinite(high)) return [0, 1];
  if (high - low < 1e-12) [low, high] = flat(low, high, floor, ceiling);
  const air = 0.06 * (high - low);
  return [floor ?? low - air, ceiling ?? high + air];
}

function flat(low, high, floor, ceiling) {
  const half = Math.abs(low) * 0.1 || 0.5;
  return [floor ?? low - half, ceiling ?? high + half];
}

/** About `count` round numbers within [low, high]. */
export function ticks(low, high, count) {
  const rough = (high - low) / count;
  if (!(rough > 0)) return [];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.8);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, n) => (first + n) * step);
}

/** The place of the point nearest to x; -1 without points. */
export function nearest(points, x) {
  let low = 0;
  let high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle;
    else high = middle;
  }
  if (high < 0) return -1;
  return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? low : high;
}

/** A number in three digits: 0.4132 -> 0.413, 12345 -> 12,345, 0.00002 -> 2e-5; `least` of them. */
export function figure(value, locale, least = 1) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  const options = size >= 100 ? { maximumFractionDigits: 0 } : { minimumSignificantDigits: least, maximumSignificantDigits: 3 };
  return new Intl.NumberFormat(locale, options).format(value);
}
