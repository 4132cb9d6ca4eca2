// The line above the cards: is anything wrong, what, and how much of the rest is judged at all.

import {element} from "./dom.js";
import {streams} from "./selection.js";
import {alarms, count, STATES} from "./states.js";
import {humanise, timeOfDay} from "./units.js";

const LINES_MAX = 8;

/** Draws the summary into `place`; `choose(stream, window, kpi)` is called when a line is followed. */
export class Summary {
  #place;
  #choose;
  #kpis = new Map();
  #whole = true;
  #says = "";

  constructor(place, choose) {
    this.#place = place;
    this.#choose = choose;
  }

  /** The KPIs by which lines are worded, and whether all value streams are on this page. */
  know(kpis, whole) {
    this.#kpis = new Map(kpis.map(kpi => [kpi.name, kpi]));
    this.#whole = whole;
  }

  /** Brings it up to date; it is built anew only where it says something else, so that focus stays. */
  say(store) {
    const kpis = [...this.#kpis.values()], found = alarms(store, kpis), counts = count(store, kpis), part = this.#whole ? [] : [partOf(streams(store).length)];
    const says = JSON.stringify([found.map(one => [one.kpi, one.labels, one.state, one.value]), [...counts], part]);
    this.#place.hidden = counts.size === 0 && this.#whole;
    if (says === this.#says) return;
    this.#says = says;
    const focused = this.#place.contains(document.activeElement) ? document.activeElement.textContent : null;
    this.#place.dataset.alarming = found.length ? "true" : counts.has("ok") ? "false" : "unknown";
    this.#place.replaceChildren(
      ...part.map(text => element("p", "part", {}, text)),
      element("p", "counts", {}, found.length ? "" : element("b", "", {}, counts.has("ok") ? "Nothing is beyond its usual band. " : "Nothing is judged yet. "),
        ...Object.entries(STATES).filter(([name]) => counts.has(name)).map(([name, {mark, word, means}]) =>
          element("span", "tally", {"data-state": name, title: means}, element("span", "mark", {"aria-hidden": "true"}, mark), ` ${counts.get(name)} ${word}`))),
      ...(found.length ? [element("ul", "", {}, ...found.slice(0, LINES_MAX).map(one => this.#line(one)))] : []),
      ...(found.length > LINES_MAX ? [element("p", "more", {}, `and ${found.length - LINES_MAX} more, on their cards`)] : []));
    if (focused) [...this.#place.querySelectorAll("a")].find(link => link.textContent === focused)?.focus();
  }

  #line(series) {
    const kpi = this.#kpis.get(series.kpi), {mark, word} = STATES[series.state], {value_stream: stream, window, percentile} = series.labels;
    const name = [series.kpi.replaceAll("_", " "), percentile].filter(Boolean).join(" ");
    const usual = series.usual === null ? "" : `, usual ${humanise(series.usual, kpi.unit)}`;
    const link = element("a", "", {href: `#kpi-${series.kpi}`}, `${stream}: ${name}`);
    link.addEventListener("click", event => { event.preventDefault(); this.#choose(stream, window, series.kpi); });
    return element("li", "", {}, element("b", "", {"data-state": series.state}, element("span", "mark", {"aria-hidden": "true"}, mark), ` ${word} `), link,
      ` ${humanise(series.value, kpi.unit)}${usual}${window ? `, over ${window}` : ""}, since ${timeOfDay(series.since)}`);
  }
}

// `flowmetrics top` says the same.
const partOf = streams => `This worker shows ${streams} value stream${streams === 1 ? "" : "s"}; other workers show others.`;
