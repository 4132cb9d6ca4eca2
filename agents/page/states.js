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

/** Whether the alert of a KPI reads this series: of all its cells it is one, or one for each value stream. */
export function isWatched(series, watched) {
  return watched !== null && Object.entries(watched).every(([label, value]) => series.labels[label] === value);
}

/** What needs to be looked at, as the alerts see it: drifting first, then what has been so for longest. */
export function alarms(store, kpis) {
  return [...watchedOf(store, kpis)].filter(series => ALARMS.includes(series.state)).sort((a, b) => rank(a) - rank(b) || a.since - b.since);
}

/** How many of the series that alerts read are in each state. */
export function count(store, kpis) {
  const counts = new Map();
  for (const {state} of watchedOf(store, kpis)) counts.set(state, (counts.get(state) ?? 0) + 1);
  return counts;
}

const rank = series => ALARMS.indexOf(series.state);

function* watchedOf(store, kpis) {
  for (const kpi of kpis) for (const series of store.of(kpi.name)) if (series.state !== null && series.value !== null && isWatched(series, kpi.watched ?? null)) yield series;
}
