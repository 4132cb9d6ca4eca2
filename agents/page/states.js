// The states of a series as the engine judges them: a mark, a word and what it means. Colour is never the only
// difference: every mark has another shape, and the word stands beside it.

export const STATES = {
  drifting: {mark: "▲", word: "drifting", means: "beyond its usual band for long enough to be sure"},
  suspect: {mark: "△", word: "suspect", means: "beyond its usual band, not for long yet"},
  stale: {mark: "✕", word: "stale", means: "no current reading"},
  insufficient: {mark: "○", word: "too few samples", means: "too few samples to judge it"},
  warming: {mark: "◌", word: "warming", means: "judged once there are three earlier weeks to compare with"},
  ok: {mark: "●", word: "ok", means: "within its usual band"},
};

const ALARMS = ["drifting", "suspect"];
const TOTAL = "all";
const TOTALLED = ["item_type", "channel", "segment", "touchpoint"];

/**
 * What needs to be looked at: of each KPI and value stream the total that is worst, drifting ones first, then those
 * that have been so for longest. Parts of a total are on its card: one line a KPI, not one a cell.
 */
export function alarms(store, window) {
  const worst = new Map();
  for (const series of store.all()) {
    if (!ALARMS.includes(series.state) || series.value === null || TOTALLED.some(label => (series.labels[label] ?? TOTAL) !== TOTAL)) continue;
    const key = JSON.stringify([series.kpi, series.labels.value_stream]), held = worst.get(key);
    if (!held || order(series, held, window) < 0) worst.set(key, series);
  }
  return [...worst.values()].sort((a, b) => order(a, b, window));
}

const rank = series => ALARMS.indexOf(series.state);
const order = (a, b, window) => rank(a) - rank(b) || (b.labels.window === window) - (a.labels.window === window) || a.since - b.since;

/** How many totals are in each state, to be told at a glance. */
export function count(store) {
  const counts = new Map();
  for (const {state, labels} of store.all()) {
    if (state === null || TOTALLED.some(label => (labels[label] ?? TOTAL) !== TOTAL)) continue;
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  return counts;
}
