// One KPI: its question, what it stands at, how sure that is, and how it came there.
//
// Text that came from labels is only ever set as text, never as markup: a label is what somebody's tool sent.

import {Chart, swatch} from "./chart.js";
import {element} from "./dom.js";
import {select} from "./selection.js";
import {STATES} from "./states.js";
import {exact, humanise, timeOfDay, unitWord} from "./units.js";

const HEADLINES_MAX = 3;
const BETTER = {lower: "lower is better", higher: "higher is better"};
const SAMPLES = {Surveys: ["answer", "answers"]};
const BOUNDED = ["score", "ratio"];
const ALARMING = ["suspect", "drifting"];
const grouped = new Intl.NumberFormat("en");

/** The card of a KPI. `root` is its element; `has` says whether there is anything to show. */
export class Card {
  #kpi;
  #picked = {};
  #changed;
  #behind;
  #derivedFrom = "";
  #rows = [];
  #selection = null;
  #context = element("p", "metric");
  #figures = element("div", "figures");
  #slices = element("div", "slices");
  #legend = element("div", "legend");
  #advice = element("p", "advice", {hidden: ""});
  #host;
  #chart;

  constructor(kpi, changed, behind) {
    this.#kpi = kpi;
    this.#behind = behind;
    this.#changed = changed;
    const id = `kpi-${kpi.name}`;
    this.#host = element("div", "chart", {tabindex: "0", role: "img", "aria-label": `Chart: ${kpi.question} Arrow keys read it out.`});
    this.root = element("article", "card", {"data-kpi": kpi.name, "aria-labelledby": id},
      element("h3", "", {id, tabindex: "-1"}, kpi.question),
      this.#context,
      element("div", "standing", {}, this.#figures, this.#advice, this.#slices), this.#host, this.#legend);
    this.#chart = new Chart(this.#host, kpi.unit);
  }

  get kpi() { return this.#kpi; }

  /** Whether any series is there under the choices. */
  get has() { return this.#selection.drawn.length > 0; }

  /** The windows that have data although the chosen one has none. */
  get elsewhere() { return this.#selection.elsewhere; }

  /** Derives what to show; cheap when neither series nor choices changed. */
  choose(store, choice) {
    const from = JSON.stringify([store.shape, choice.stream, choice.window, this.#picked]);
    if (from === this.#derivedFrom) return;
    this.#derivedFrom = from;
    this.#selection = select(this.#kpi, store, choice, this.#picked);
    if (this.has) this.#build();
  }

  /** Brings the figures up to date. */
  say() { this.#rows.forEach(row => row()); }

  /** Brings the chart up to date, over the time `range`. */
  plot(range) { this.#chart.show(this.#selection.drawn, this.#selection.total, range); }

  #build() {
    const {drawn, listed, total, spread, first, window} = this.#selection;
    this.#rows = [];
    this.#context.replaceChildren(element("code", "", {}, this.#kpi.metric), ...[BETTER[this.#kpi.better], window && `window ${window}`, this.#kpi.not_judged && "nobody is told of it", ...this.#settled()]
      .filter(Boolean).map(text => element("span", "", {}, text)));
    this.#context.title = this.#kpi.not_judged ?? "";
    const heads = total || drawn.length === 1 ? [first] : [first, ...drawn.keys()].filter((k, i) => i === 0 || k !== first).slice(0, HEADLINES_MAX);
    this.#figures.replaceChildren(...heads.map((k, i) => this.#figure(drawn[k], k, i === 0, drawn.length > 1)));
    const complete = drawn.length <= heads.length;
    this.#advice.replaceChildren(...[this.#kpi.next_step, " ", this.#runbook()].filter(Boolean));
    this.#rows.push(() => { this.#advice.hidden = !this.#kpi.next_step || !drawn.some(({series}) => ALARMING.includes(series.state)); });
    this.#legend.replaceChildren(...(complete ? [] : [this.#list(drawn, spread)]), ...this.#undrawn(listed));
    this.#buildSlices();
  }

  // A runbook that is a file of a checkout is named; the engine does not serve it.
  #runbook() {
    const {alert = null, runbook = null} = this.#kpi;
    if (runbook === null) return "";
    return /^https?:/.test(runbook) ? element("a", "", {href: runbook}, `Runbook of ${alert}`) : `Runbook of ${alert}: ${runbook}`;
  }

  // Labels with one value are said, not offered; a plain total needs no saying.
  #settled() {
    return this.#selection.slices.filter(({values}) => values.length === 1 && values[0] !== "all").map(({label, value}) => `${words(label)} ${value}`);
  }

  #buildSlices() {
    const offered = this.#selection.slices.filter(({values}) => values.length > 1);
    if (this.#slices.contains(document.activeElement) && offered.length === this.#slices.childElementCount) return;
    this.#slices.replaceChildren(...offered.map(({label, values, value}) => {
      const menu = element("select", "", {"data-slice": label}, ...values.map(each => new Option(each, each, false, each === value)));
      menu.addEventListener("change", () => { this.#picked[label] = menu.value; this.#changed(); });
      return element("label", "", {}, `${words(label)} `, menu);
    }));
  }

  #figure({series, name}, index, primary, marked) {
    const value = element("data", "value"), word = element("span", "word"), note = element("p", "note");
    const down = element("button", "down", {type: "button"}, value, word);
    down.addEventListener("click", () => this.#behind(this.#kpi, series));
    const standing = element("p", "state");
    const box = element("div", primary ? "figure primary" : "figure", {},
      ...(marked ? [element("p", "name", {title: name}, this.#swatch(index), element("bdi", "", {}, name))] : []),
      element("p", "amount", {}, down), standing, note);
    this.#rows.push(() => {
      this.#state(value, series, primary);
      word.textContent = series.value === null ? "" : unitWord(series.value, this.#kpi.unit);
      down.disabled = series.value === null;
      down.setAttribute("aria-label", `${value.textContent} ${word.textContent}${marked ? `, ${name}` : ""}: show who is behind it`);
      note.replaceChildren(...this.#certainty(series));
      this.#stand(standing, series, primary);
      box.dataset.sufficient = String(series.sufficient);
    });
    return box;
  }

  // An absent value has no data-value at all: nothing that reads the page can take it for a zero.
  #state(place, series, primary) {
    const {value} = series, {unit} = this.#kpi;
    place.textContent = value === null ? "no data now" : humanise(value, unit);
    place.classList.toggle("absent", value === null);
    if (value === null) {
      place.removeAttribute("value");
      place.removeAttribute("data-value");
      place.title = `absent since ${timeOfDay(series.changedAt)}`;
      return;
    }
    place.value = String(value);
    if (primary) place.dataset.value = String(value);
    place.title = exact(value, unit);
  }

  // The state in words, and beside the first figure what it was held against.
  #stand(place, series, primary) {
    const known = STATES[series.state];
    place.hidden = !known || series.value === null;
    if (place.hidden) return;
    place.dataset.state = series.state;
    place.title = `${known.means}, since ${timeOfDay(series.since)}`;
    place.replaceChildren(element("span", "mark", {"aria-hidden": "true"}, known.mark), ` ${known.word}`, ...(primary ? this.#usual(series) : []));
  }

  #usual({usual, weeks, bandLow, bandHigh}) {
    if (usual === null) return [];
    const {unit} = this.#kpi, edges = [bandLow !== null && `below ${humanise(bandLow, unit)}`, bandHigh !== null && `above ${humanise(bandHigh, unit)}`];
    const at = edges.filter(Boolean).join(" or ");
    return [element("span", "usual", {title: `median of the same time in ${weeks} earlier weeks; the band reaches from there to where it is suspect`}, element("i", "band", {"aria-hidden": "true"}), `usual ${humanise(usual, unit)}${at && `, suspect ${at}`}`)];
  }

  #certainty(series) {
    const {value, lower, upper, samples, sufficient} = series, {unit, group} = this.#kpi, parts = [];
    if (value === null) return [element("span", "", {}, `since ${timeOfDay(series.changedAt)}`)];
    if (sufficient === false && series.state !== "insufficient") parts.push(element("strong", "few", {}, "too few samples"));
    if (lower !== null && upper !== null) parts.push(element("span", "", {}, `95\u00a0%: ${humanise(lower, unit)} to ${humanise(upper, unit)}`));
    if (samples !== null) parts.push(element("span", "", {}, `${grouped.format(samples)} ${(SAMPLES[group] ?? ["sample", "samples"])[samples === 1 ? 0 : 1]}`));
    return parts;
  }

  #swatch(index) { return swatch(index, this.#selection.total); }

  #list(lines, spread) {
    const bounded = BOUNDED.includes(this.#kpi.unit) && lines.some(({series}) => series.lower !== null);
    return element("ul", bounded ? "bounded" : "", {"aria-label": `by ${words(spread)}`}, ...lines.map((line, i) => this.#entry(line, bounded && lines, this.#swatch(i))));
  }

  #draw(place, note, series, beside) {
    const {value, lower, upper, samples} = series, {unit} = this.#kpi;
    place.hidden = value === null || lower === null;
    note.textContent = samples === null || value === null ? "" : grouped.format(samples);
    if (place.hidden) return;
    const known = beside.map(line => line.series).filter(one => one.lower !== null && one.value !== null);
    const low = Math.min(...known.map(one => one.lower)), high = Math.max(...known.map(one => one.upper)), at = x => `${high > low ? (x - low) / (high - low) * 100 : 50}%`;
    const bar = element("i"), tick = element("b");
    Object.assign(bar.style, {left: at(lower), width: `calc(${at(upper)} - ${at(lower)})`});
    tick.style.left = at(value);
    place.title = `95\u00a0%: ${humanise(lower, unit)} to ${humanise(upper, unit)}, ${samples} answers`;
    place.replaceChildren(bar, tick);
  }

  #undrawn(lines) {
    if (!lines.length) return [];
    return [element("details", "", {}, element("summary", "", {}, `${lines.length} more, not drawn`),
      element("ul", "", {}, ...lines.map(line => this.#entry(line, null))))];
  }

  // With bounds beside each other on one scale, it is seen which differences are more than chance.
  #entry({series, name}, beside, ...mark) {
    const value = element("data", "value"), interval = element("span", "interval"), samples = element("span", "note");
    const row = element("li", "", {"data-series": name}, ...mark, element("bdi", "name", {title: name}, name), ...(beside ? [interval, samples] : []), value);
    this.#rows.push(() => {
      if (beside) this.#draw(interval, samples, series, beside);
      this.#state(value, series, false);
      if (series.value !== null && series.sufficient === false) value.append(" ", element("strong", "few", {title: "too few samples"}, "few"));
      else if (series.value !== null && ALARMING.includes(series.state)) value.append(" ", element("strong", "alarm", {}, series.state));
    });
    return row;
  }
}

const words = label => label.replaceAll("_", " ");
