// Which series of a KPI a card shows under the reader's choices. Pure: store in, selection out.
//
// Of a KPI's labels, the value stream and the window are chosen for the whole page, one label is spread out as
// lines (the percentiles of a time, else a label that has no total, else the first), and the rest are sliced:
// one value each, "all" unless the reader picks another.

import {span} from "./units.js";

/** Lines drawn on one card. The rest are listed, not drawn: more would not be told apart. */
export const LINES_MAX = 8;

const TOTAL = "all";
const TOTALLED = ["item_type", "channel", "segment", "touchpoint"];  // labels for which "all" is published
const collator = new Intl.Collator("en", {numeric: true});

/** "all" first, lengths of time by length, the rest as people count: p50, p85, p95; d1, d7, d30. */
export function inOrder(a, b) {
  if (a === TOTAL || b === TOTAL) return (b === TOTAL) - (a === TOTAL);
  const [spanA, spanB] = [span(a), span(b)];
  return spanA && spanB ? spanA - spanB : collator.compare(a, b);
}

const distinct = (list, label) => [...new Set(list.map(series => valueOf(series, label)))].sort(inOrder);
const valueOf = (series, label) => series.labels[label] ?? TOTAL;

/** All value streams that any series has. */
export function streams(store) {
  const found = new Set();
  for (const series of store.all()) if (series.labels.value_stream !== undefined) found.add(series.labels.value_stream);
  return [...found].sort(collator.compare);
}

/** All windows that any series has. */
export function windows(store) {
  const found = new Set();
  for (const series of store.all()) if (series.labels.window !== undefined) found.add(series.labels.window);
  return [...found].sort(inOrder);
}

/**
 * What the card of `kpi` shows.
 *
 * `drawn`: the lines, at most LINES_MAX, the total first; `listed`: the other ones; `spread`: the label that tells
 * them apart; `total`: whether the first line is the total of the others; `slices`: the labels left to choose,
 * with their values; `elsewhere`: the windows that have data when the chosen one has none.
 */
export function select(kpi, store, choice, picked) {
  const streamed = store.of(kpi.name).filter(({labels}) => (labels.value_stream ?? choice.stream) === choice.stream);
  const labels = labelsOf(kpi, streamed);
  const spread = spreadOf(labels);
  const windowed = labels.includes("window") && spread !== "window";
  let left = windowed ? streamed.filter(series => valueOf(series, "window") === choice.window) : streamed;
  const elsewhere = left.length ? [] : distinct(streamed, "window");

  const slices = [];
  for (const label of labels) {
    if (label === spread || label === "window") continue;
    const values = distinct(left, label);
    const value = values.includes(picked[label]) ? picked[label] : values[0];
    slices.push({label, values, value});
    left = left.filter(series => valueOf(series, label) === value);
  }

  left.sort((a, b) => inOrder(valueOf(a, spread), valueOf(b, spread)));
  const lines = left.map(series => ({series, name: spread === null ? "" : valueOf(series, spread)}));
  return {
    spread, slices, elsewhere,
    window: windowed ? choice.window : null,
    total: lines.length > 0 && lines[0].name === TOTAL,
    drawn: lines.slice(0, LINES_MAX),
    listed: lines.slice(LINES_MAX),
    first: firstOf(lines, spread, choice),
  };
}

function labelsOf(kpi, list) {
  const labels = new Set(kpi.labels);
  for (const series of list) for (const label of Object.keys(series.labels)) labels.add(label);
  labels.delete("value_stream");
  return [...labels];
}

function spreadOf(labels) {
  if (labels.includes("percentile")) return "percentile";
  const others = labels.filter(label => label !== "window");
  return others.find(label => !TOTALLED.includes(label)) ?? others[0] ?? labels[0] ?? null;
}

// The headline is the first line; where the lines are the windows themselves, it is the chosen window.
function firstOf(lines, spread, choice) {
  const chosen = spread === "window" ? lines.findIndex(line => line.name === choice.window) : 0;
  return Math.max(0, chosen);
}
