// The page: choices above, groups of cards below, and one frame that draws what a reading changed.

import {Behind} from "./behind.js";
import {Card} from "./card.js";
import {ask} from "./details.js";
import {element} from "./dom.js";
import {Feed} from "./feed.js";
import {streams, windows} from "./selection.js";
import {Store} from "./store.js";
import {Summary} from "./summary.js";
import {fullTime, span, timeOfDay} from "./units.js";
import {Work} from "./work.js";

const SPANS = [["all", "since the start"], ["15m", "last 15 minutes"], ["1h", "last hour"], ["6h", "last 6 hours"], ["24h", "last 24 hours"], ["7d", "last 7 days"], ["35d", "last 5 weeks"]];
const RECALLED = ["24h", "7d", "35d"];   // what the engine kept by the hour, from before it started too
const SHORTEST_SPAN = 60;
const WINDOW_PREFERRED = "7d";
const byId = id => document.getElementById(id);

const store = new Store();
const wanted = new URLSearchParams(location.search);   // a link carries the choices with it
const choice = {stream: wanted.get("stream"), window: wanted.get("window"), span: SPANS.some(([key]) => key === wanted.get("span")) ? wanted.get("span") : "all"};
const behind = new Behind(document.body);
const work = new Work(name => behind.openOf("item", name));
const summary = new Summary(byId("summary"), follow);
let groups = [];      // [{name, section, grid, absent, cards}]
let catalogue = "";
let reading = null;   // the last one
let due = false;

function showCatalogue(received) {
  const text = JSON.stringify(received);
  if (text === catalogue) return;
  if (catalogue) { location.reload(); return; }   // another version of the engine has another page
  catalogue = text;
  byId("version").textContent = received.version;
  summary.know(received.kpis, received.details !== "elsewhere");
  work.know(received.details ?? null);
  groups = [...byGroup(received.kpis)].map(([name, kpis]) => {
    const id = `group-${name.toLowerCase()}`, grid = element("div", "grid"), absent = element("p", "none");
    const section = element("section", "", {"aria-labelledby": id}, element("h2", "", {id, tabindex: "-1"}, name), grid, absent);
    return {name, id, section, grid, absent, cards: kpis.map(kpi => new Card(kpi, refresh, (of, series) => behind.openFor(of, series)))};
  });
  const sections = [...groups.slice(0, 1), {name: "Work", id: "group-work", section: work.root}, ...groups.slice(1)];
  byId("contents").replaceChildren(...sections.map(({name, id}) => element("a", "", {href: `#${id}`}, name)));
  byId("groups").replaceChildren(...sections.map(({section}) => section));
}

/** Goes to the card of a KPI, of that value stream and window. */
function follow(stream, window, kpi) {
  Object.assign(choice, {stream, window: window ?? choice.window});
  remember();
  refresh();
  const heading = byId(`kpi-${kpi}`);
  heading?.scrollIntoView({block: "center"});
  heading?.focus({preventScroll: true});
}

function byGroup(kpis) {
  const found = new Map();
  for (const kpi of kpis) {
    const name = kpi.group ?? "Other";
    found.set(name, [...(found.get(name) ?? []), kpi]);
  }
  return found;
}

/** Sets the choices from what there is, lays out the cards and draws at the next frame. */
function refresh() {
  offer("stream", streams(store), known => known[0]);
  offer("window", windows(store), known => (known.includes(WINDOW_PREFERRED) ? WINDOW_PREFERRED : known[0]));
  for (const group of groups) {
    group.cards.forEach(card => card.choose(store, choice));
    place(group.grid, group.cards.filter(card => card.has).map(card => card.root));
    sayAbsent(group.absent, group.cards.filter(card => !card.has));
  }
  work.root.hidden = store.since === null;
  work.choose(choice);
  document.body.dataset.filled = String(store.since !== null);
  title();
  draw();
  recall();
}

// A choice that was made stays, also when an earlier name turns up; one that has gone falls back.
function offer(key, known, preferred) {
  const menu = byId(key);
  const shown = [...menu.options].map(option => option.value);
  if (known.length && !known.includes(choice[key])) choice[key] = preferred(known);
  menu.disabled = known.length === 0;
  if (!known.length) menu.replaceChildren(new Option("none yet", ""));
  else if (known.join("\n") !== shown.join("\n")) menu.replaceChildren(...known.map(value => new Option(value, value)));
  if (known.length) menu.value = choice[key];
}

// Moves only what is out of place: an element that stays keeps its focus and its chart.
function place(grid, roots) {
  for (const child of [...grid.children]) if (!roots.includes(child)) child.remove();
  roots.forEach((root, i) => { if (grid.children[i] !== root) grid.insertBefore(root, grid.children[i] ?? null); });
}

function sayAbsent(line, cards) {
  line.hidden = cards.length === 0;
  const items = cards.flatMap(({kpi, elsewhere}, i) => [i ? ", " : " ",
    element("span", "", {"data-absent": kpi.name, title: kpi.question}, kpi.name.replaceAll("_", " ") + (elsewhere.length ? ` (only for ${elsewhere.join(", ")})` : ""))]);
  const text = items.map(item => item.textContent ?? item).join("");
  if (line.dataset.says === text) return;
  line.dataset.says = text;
  line.replaceChildren(element("b", "", {}, "no data yet:"), ...items);
}

function draw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    const range = timeRange();
    const cards = groups.flatMap(group => group.cards).filter(card => card.has);
    summary.say(store);
    cards.forEach(card => card.say());
    cards.forEach(card => card.plot(range));   // after all text, which decides how tall the charts are
  });
}

let recalled = new Set();

// Asks for the past of what is shown once, when the charts reach back that far.
async function recall() {
  if (!RECALLED.includes(choice.span) || choice.stream === null) return;
  const cards = groups.flatMap(group => group.cards).filter(card => card.has && !recalled.has(`${card.kpi.name} ${choice.stream}`));
  const {stream} = choice, known = recalled;
  for (const {kpi} of cards) {
    known.add(`${kpi.name} ${stream}`);
    const told = await ask("past", {kpi: kpi.name, value_stream: stream}).catch(() => null);
    if (known !== recalled) return;   // the history came anew meanwhile
    if (told === null) known.delete(`${kpi.name} ${stream}`);
    else { store.recall(kpi.name, told.lines); draw(); }
  }
}

// Every chart shows the same time, so that a dip here can be held against a bump there.
function timeRange() {
  const until = store.at ?? Date.now() / 1000;
  const from = choice.span === "all" ? store.begun ?? until : until - span(choice.span);
  return [Math.min(from, until - SHORTEST_SPAN), until];
}

const STATES = {
  waiting: () => "connecting",
  live: () => "live",
  "catching-up": reason => `catching up: ${reason || "not ready yet"}`,
  "held-back": reason => `held back: ${reason}`,
  stale: () => "stale: no reading for more than 15 s",
  disconnected: () => "disconnected, retrying",
};

function showState({name, reason, detail, age}) {
  document.body.dataset.state = name;
  const words = STATES[name](reason);
  if (byId("state").textContent !== words) byId("state").textContent = words;   // said once, not every second
  if (reading) {
    const seconds = Math.round(age / 1000), heard = byId("heard");
    heard.textContent = `last reading ${timeOfDay(reading.at)}` + (seconds >= 6 ? `, ${seconds} s ago` : "");
    heard.title = fullTime(reading.at);
  }
  notify(name, detail);
  title();
}

function notify(name, detail) {
  const asOf = reading ? `Values and charts stand as of ${timeOfDay(reading.at)} and are not current` : "The engine does not answer";
  const text = {
    waiting: store.since === null ? "Waiting for the engine." : `${asOf}: connecting again.`,
    stale: `${asOf}: the engine is silent.`,
    disconnected: `${asOf}${detail ? `: ${detail}` : ""}. The page tries again by itself.`,
    "catching-up": "The engine is not ready: what it has not recovered yet is absent.",
    "held-back": "Events are accepted and not lost. Numbers come back once what is held back can be counted.",
    live: store.since === null ? "Nothing to show yet. As soon as events arrive (POST /events, or flowmetrics import), the KPIs appear here." : "",
  }[name];
  const notice = byId("notice");
  notice.hidden = !text;
  if (notice.textContent !== text) notice.textContent = text;
}

function title() {
  const {state} = document.body.dataset;
  const text = `${state === "live" ? "" : `(${state.replace("-", " ")}) `}${choice.stream ?? ""}${choice.stream ? " · " : ""}flowmetrics`;
  if (document.title !== text) document.title = text;
}

function remember() {
  const query = new URLSearchParams(Object.entries(choice).filter(([key, value]) => value && (key !== "span" || value !== "all")));
  history.replaceState(null, "", `?${query}${location.hash}`);
}

byId("span").append(...SPANS.map(([key, words]) => new Option(words, key, false, key === choice.span)));
for (const key of ["stream", "window", "span"]) byId(key).addEventListener("change", event => { choice[key] = event.target.value; remember(); refresh(); });
byId("choices").addEventListener("submit", event => event.preventDefault());
document.addEventListener("spoken", event => { byId("spoken").textContent = event.detail; });
document.addEventListener("visibilitychange", () => document.hidden || draw());

new Feed(document.baseURI, {
  catalogue: showCatalogue,
  history: ({series}) => { store.replace(series); recalled = new Set(); refresh(); },
  reading: received => {
    reading = received;
    const before = store.shape;
    store.apply(received);
    if (store.shape === before) draw(); else refresh();
  },
  state: showState,
}).start();
