// What is known: every series with its points and its current value.
//
// A value holds until the next one, so a point is kept only where something changed, and "no value" (null) is a
// change like any other:
//
//     points   (10:00, 5)          (10:04, null)   (10:06, 7)
//     means     5 5 5 5 5 5 5 5 5 5                 7 7 7 7 7 …  until the last reading

/** Points kept of one series, and of all together: a page left open for a week must not eat the browser. */
export const POINTS_MAX = 2000, POINTS_MIN = 100, POINTS_TOTAL = 4_000_000;

/** One line: the labels of a series, the times at which it changed and to what (null: absent from then on). */
export class Series {
  times = [];
  values = [];
  lower = null;
  upper = null;
  samples = null;
  sufficient = null;
  state = null;      // what may be said of it: states.js
  since = null;
  usual = null;      // the baseline: the same time of former weeks
  weeks = 0;
  bandLow = null;    // where it would be suspect, on its bad side only
  bandHigh = null;

  constructor(kpi, labels) {
    this.kpi = kpi;
    this.labels = labels;
  }

  /** What it stands at; null when absent. */
  get value() { return this.values.at(-1) ?? null; }

  /** When it last changed. */
  get changedAt() { return this.times.at(-1) ?? null; }

  /** Notes that the value is `value` from `at` on; what is older than the newest point is known already. */
  add(at, value, limit) {
    const last = this.times.length - 1;
    if (last < 0 ? value === null : at < this.times[last] || value === this.values[last]) return;
    if (last >= 0 && at === this.times[last]) this.values[last] = value;
    else { this.times.push(at); this.values.push(value); }
    if (this.times.length > limit) this.thin(limit);
  }

  /** Takes in older points, `[at, value]`, of which those before the first known one are news. */
  recall(points) {
    const older = points.filter(([at]) => at < (this.times[0] ?? -Infinity));
    this.times.unshift(...older.map(([at]) => at));
    this.values.unshift(...older.map(([, value]) => value));
  }

  /** Takes over what came with a value: bounds, samples, state, baseline. */
  describe({lower = null, upper = null, samples = null, sufficient = null, state = null, since = null, usual = null, weeks = 0, band_low = null, band_high = null}) {
    Object.assign(this, {lower, upper, samples, sufficient, state, since, usual, weeks, bandLow: band_low, bandHigh: band_high});
  }

  /** Keeps the newest quarter as it is, and of the rest what tells most in each of many equal stretches of time. */
  thin(limit) {
    const older = this.times.length - Math.floor(limit / 4), begun = this.times[0];
    const stretch = (this.times[older - 1] - begun) / Math.floor(limit / 2 / TELLING_MAX);
    const kept = [];
    for (let from = 0, to = 0; from < older; from = to) {
      const end = begun + (Math.floor((this.times[from] - begun) / stretch) + 1) * stretch;
      do to++; while (to < older && this.times[to] < end);
      kept.push(...telling(this.values, from, to));
    }
    for (let k = older; k < this.times.length; k++) kept.push(k);
    [this.times, this.values] = [kept.map(k => this.times[k]), kept.map(k => this.values[k])];
  }

  /** Index of the point that holds at `at`; -1 before the first. */
  indexAt(at) {
    let low = 0, high = this.times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] <= at) low = middle + 1; else high = middle;
    }
    return low - 1;
  }
}

const TELLING_MAX = 5;

// The points that tell most: both ends, both extremes, and where it was first absent. A value between two gaps
// goes, because it would be held across the second: losing a point is coarser, a line drawn over an absence is
// untrue.
function telling(values, from, to) {
  const all = [...Array(to - from).keys()].map(k => from + k);
  if (all.length <= TELLING_MAX) return all;
  const gaps = all.filter(k => values[k] === null);
  const free = all.filter(k => values[k] !== null && !(k > gaps[0] && k < gaps.at(-1)));
  const most = better => free.reduce((best, k) => (better(values[k], values[best]) ? k : best), free[0]);
  const kept = [from, gaps[0], most((a, b) => a < b), most((a, b) => a > b), to - 1];
  return [...new Set(kept)].filter(k => k !== undefined).sort((a, b) => a - b);
}

/** All series by KPI. `shape` changes when a series appears, so that who derived something from them can tell. */
export class Store {
  shape = 0;
  at = null;
  #byKpi = new Map();
  #count = 0;
  #since = Infinity;
  #begun = Infinity;

  /** The series of a KPI, in order of appearance. */
  of(kpi) { return [...(this.#byKpi.get(kpi)?.values() ?? [])]; }

  /** Every series. */
  * all() { for (const known of this.#byKpi.values()) yield* known.values(); }

  /** The time of the oldest point that the engine saw itself, whatever was recalled from before; null for none. */
  get begun() { return Number.isFinite(this.#begun) ? this.#begun : null; }

  /** The time of the oldest point; null when there is none. */
  get since() { return Number.isFinite(this.#since) ? this.#since : null; }

  get limit() { return Math.max(POINTS_MIN, Math.min(POINTS_MAX, Math.floor(POINTS_TOTAL / (this.#count || 1)))); }

  /** Forgets all and takes over the server's history. */
  replace(history) {
    this.#byKpi.clear();
    this.#count = 0;
    this.#since = this.#begun = Infinity;
    this.at = null;
    this.shape++;
    for (const {kpi, labels, points, ...described} of history) {
      if (!points.some(([, value]) => value !== null)) continue;
      const series = this.#series(kpi, labels);
      for (const [at, value] of points) this.#add(series, at, value);
      series.describe(described);
    }
  }

  /** Takes in the hourly past of a KPI: what a known series stood at before the engine started. */
  recall(kpi, lines) {
    for (const {labels, points} of lines) {
      const series = this.#byKpi.get(kpi)?.get(keyOf(labels));
      if (!series) continue;
      series.recall(points);
      this.#since = Math.min(this.#since, series.times[0] ?? Infinity);
    }
  }

  /** Takes over one reading; what it does not mention stands as it stood. */
  apply({at, values}) {
    this.at = Math.max(at, this.at ?? at);
    for (const {kpi, labels, value, ...described} of values) {
      if (value === null && !this.#byKpi.get(kpi)?.has(keyOf(labels))) continue;
      const series = this.#series(kpi, labels);
      if (series.changedAt !== null && at < series.changedAt) continue;
      this.#add(series, at, value ?? null);
      series.describe(described);
    }
  }

  #add(series, at, value) {
    series.add(at, value, this.limit);
    if (series.times.length) this.#since = Math.min(this.#since, series.times[0]);
    this.#begun = Math.min(this.#begun, at);
    this.at = Math.max(this.at ?? at, at);
  }

  #series(kpi, labels) {
    const known = this.#byKpi.get(kpi) ?? this.#byKpi.set(kpi, new Map()).get(kpi);
    const key = keyOf(labels);
    if (!known.has(key)) {
      known.set(key, new Series(kpi, labels));
      this.#count++;
      this.shape++;
    }
    return known.get(key);
  }
}

const keyOf = labels => JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));

/** Series as columns over one common time, from `from` to `until`: `[times, values, values, …]`, null for absent. */
export function columns(list, from, until) {
  const next = list.map(series => series.indexAt(from));
  const held = list.map((series, i) => (next[i] < 0 ? null : series.values[next[i]]));
  const table = [[from], ...held.map(value => [value])];
  for (;;) {
    let at = Infinity;
    list.forEach((series, i) => { at = Math.min(at, series.times[next[i] + 1] ?? Infinity); });
    if (at > until) break;
    list.forEach((series, i) => { while (series.times[next[i] + 1] === at) held[i] = series.values[++next[i]]; });
    table[0].push(at);
    held.forEach((value, i) => table[i + 1].push(value));
  }
  if (table[0].at(-1) < until) {
    table[0].push(until);
    held.forEach((value, i) => table[i + 1].push(value));
  }
  return table;
}
