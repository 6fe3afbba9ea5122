// Which words of two texts differ: Myers' shortest edit script in linear space, over words.

const WORD = /\p{Script=Han}|[\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{N}\p{M}_]+|[^\s\p{L}\p{N}\p{M}_]/gu;
const BUDGET = 6_000_000; // inner steps, about 70 ms; beyond it the rest counts as different

/** [{text, start, end}] of each word, sign and ideograph; white space is between them. */
export function words(text) {
  return [...text.matchAll(WORD)].map((match) => ({ text: match[0], start: match.index, end: match.index + match[0].length }));
}

/**
 * Marks what has no partner on the other side.
 * @returns {{left: boolean[], right: boolean[], complete: boolean}} one flag per word; `complete` is
 *   false when the texts were so different that part of them was not compared
 */
export function differences(left, right, budget = BUDGET) {
  const [a, b] = numbered(left, right);
  const marks = { a: new Uint8Array(a.length), b: new Uint8Array(b.length) };
  const work = { a, b, marks, steps: budget, complete: true, forth: new Int32Array(0), back: new Int32Array(0) };
  const room = 2 * (a.length + b.length) + 6;
  work.forth = new Int32Array(room);
  work.back = new Int32Array(room);
  compare(work, 0, a.length, 0, b.length);
  return { left: [...marks.a].map(Boolean), right: [...marks.b].map(Boolean), complete: work.complete };
}

/** Words as small integers: comparing those is what the inner loop does. */
function numbered(left, right) {
  const numbers = new Map();
  const number = (word) => {
    if (!numbers.has(word)) numbers.set(word, numbers.size);
    return numbers.get(word);
  };
  return [Int32Array.from(left, number), Int32Array.from(right, number)];
}

function compare(work, aLow, aHigh, bLow, bHigh) {
  const { a, b, marks } = work;
  while (aLow < aHigh && bLow < bHigh && a[aLow] === b[bLow]) (aLow++, bLow++);
  while (aLow < aHigh && bLow < bHigh && a[aHigh - 1] === b[bHigh - 1]) (aHigh--, bHigh--);
  if (aLow === aHigh || bLow === bHigh) return mark(marks, aLow, aHigh, bLow, bHigh);
  const middle = middleSnake(work, aLow, aHigh, bLow, bHigh);
  if (!middle) return mark(marks, aLow, aHigh, bLow, bHigh);
  const [x, y, u, v] = middle;
  compare(work, aLow, x, bLow, y);
  compare(work, u, aHigh, v, bHigh);
}

function mark(marks, aLow, aHigh, bLow, bHigh) {
  marks.a.fill(1, aLow, aHigh);
  marks.b.fill(1, bLow, bHigh);
}

/**
 * The run of equal words in the middle of a shortest edit script, as [x, y, u, v] from (x, y) to
 * (u, v); null when the budget ends first. Searches from both ends until the two paths meet.
 */
function middleSnake(work, aLow, aHigh, bLow, bHigh) {
  const { a, b, forth, back } = work;
  const n = aHigh - aLow;
  const m = bHigh - bLow;
  const delta = n - m;
  const odd = (delta & 1) !== 0;
  const zero = n + m + 2; // index of diagonal 0
  forth[zero + 1] = 0;
  back[zero + 1] = 0;
  for (let d = 0; d <= Math.ceil((n + m) / 2); d++) {
    work.steps -= 2 * d + 2;
    if (work.steps < 0) {
      work.complete = false;
      return null;
    }
    for (let k = -d; k <= d; k += 2) {
      let x = k === -d || (k !== d && forth[zero + k - 1] < forth[zero + k + 1]) ? forth[zero + k + 1] : forth[zero + k - 1] + 1;
      let y = x - k;
      const [fromX, fromY] = [x, y];
      while (x < n && y < m && a[aLow + x] === b[bLow + y]) (x++, y++);
      forth[zero + k] = x;
      const other = delta - k;
      if (odd && other >= -(d - 1) && other <= d - 1 && x + back[zero + other] >= n)
        return [aLow + fromX, bLow + fromY, aLow + x, bLow + y];
    }
    for (let k = -d; k <= d; k += 2) {
      let x = k === -d || (k !== d && back[zero + k - 1] < back[zero + k + 1]) ? back[zero + k + 1] : back[zero + k - 1] + 1;
      let y = x - k;
      const [fromX, fromY] = [x, y];
      while (x < n && y < m && a[aHigh - 1 - x] === b[bHigh - 1 - y]) (x++, y++);
      back[zero + k] = x;
      const other = delta - k;
      if (!odd && other >= -d && other <= d && x + forth[zero + other] >= n)
        return [aHigh - x, bHigh - y, aHigh - fromX, bHigh - fromY];
    }
  }
  return null;
}
