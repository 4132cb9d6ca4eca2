// The work of a value stream item by item: three pictures, asked for when they are looked at and once a minute then.

import {element} from "./dom.js";
import {isShown, work} from "./details.js";
import {ageing, cumulativeFlow, flowStates, scatter} from "./pictures.js";

const RENEW_MS = 60_000;
const SILENT = {
  token: "These pictures name work: follow any number, show the token there, and they appear.",
  elsewhere: "On Kafka histories are spread over all workers, so no page can draw them: flowmetrics explain item KEY reads one.",
};
const STEPS = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10};

/** The section with the pictures. `explain(name)` is called for the item that a reader picks. */
export class Work {
  #flow;
  #done;
  #open;
  #note = element("p", "none", {hidden: ""});
  #explain;
  #details = null;
  #choice = {};
  #told = null;
  #visible = false;
  #askedFor = "";
  #width = 0;
  #askedAt = -Infinity;

  constructor(explain) {
    this.#explain = explain;
    this.#flow = pane("work-flow", "Where does work pile up?", "cumulative flow");
    this.#done = pane("work-done", "How long did each item take?", "scatter of flow times");
    this.#open = pane("work-open", "Which items are growing old?", "ageing work in progress");
    const grid = element("div", "grid", {}, this.#flow.root, this.#done.root, this.#open.root);
    this.root = element("section", "", {"aria-labelledby": "group-work"}, element("h2", "", {id: "group-work", tabindex: "-1"}, "Work, item by item"), grid, this.#note);
    new IntersectionObserver(([entry]) => { this.#visible = entry.isIntersecting; this.#ask(); }, {rootMargin: "300px"}).observe(this.root);
    new ResizeObserver(() => this.#flow.host.clientWidth !== this.#width && this.#draw()).observe(grid);
    setInterval(() => this.#ask(), 5_000);
  }

  /** Whether the engine can be asked: "open", "token" (only once it was shown), or not at all. */
  know(details) { this.#details = details; }

  /** What to show. */
  choose({stream, window}) {
    this.#choice = {stream, window: window ?? "30d"};
    this.#ask();
  }

  async #ask() {
    const {stream, window} = this.#choice, wanted = JSON.stringify(this.#choice);
    if (!this.#visible || document.hidden || !stream) return;
    if (this.#details !== "open" && !(this.#details === "token" && isShown())) { this.#say(SILENT[this.#details] ?? ""); return; }
    if (wanted === this.#askedFor && performance.now() - this.#askedAt < RENEW_MS) return;
    [this.#askedFor, this.#askedAt] = [wanted, performance.now()];
    if (this.#told === null) this.#say("asking the engine …");
    let told = null, wrong = "";
    try { told = await work(stream, window); } catch (error) { wrong = error.message; }
    if (wanted !== this.#askedFor) return;
    if (told || !this.#told || this.#told.of !== wanted) this.#told = told && {...told, of: wanted};
    this.#say(wrong || (told.complete ? "" : "There are too many histories to read all of them: some items are missing here."));
    this.#draw();
  }

  #say(words) {
    this.#note.textContent = words;
    this.#note.hidden = !words;
  }

  #draw() {
    const told = this.#told, width = this.#flow.host.clientWidth;
    this.root.querySelector(".grid").hidden = told === null;
    if (told === null || !this.#visible) return;
    if (!width) { requestAnimationFrame(() => this.#flow.host.clientWidth && this.#draw()); return; }
    this.#width = width;
    const {counts, finished, finished_total: doneTotal, ageing: open, ageing_total: openTotal} = told, {window} = this.#choice;
    show(this.#flow, cumulativeFlow(width, told), flowStates(counts).map(state => key(state, `${state} ${counts[state].at(-1)}`)), `over ${window}; done counts from its begin`);
    const none = words => element("p", "none", {}, words);
    if (finished.length) this.#dots(this.#done, scatter(width, told), `${doneTotal} done in ${window}${doneTotal > finished.length ? `, the latest ${finished.length} drawn` : ""}`);
    else show(this.#done, none(`Nothing with a known start was done in ${window}.`), [], "");
    if (open.length) this.#dots(this.#open, ageing(width, told), `${openTotal} in progress${openTotal > open.length ? `, the oldest ${open.length} drawn` : ""}; lines: flow times of those done`);
    else show(this.#open, none("Nothing is in progress."), [], "");
  }

  // Dots are found with the mouse, and walked through with the keyboard: the host has the focus, one dot is marked.
  #dots(place, {picture, dots}, says) {
    show(place, picture, [], says);
    dots.forEach(({element: mark, name}) => mark.addEventListener("click", () => this.#explain(name)));
    let on = -1;
    place.host.onkeydown = event => {
      if (event.key === "Enter" && on >= 0) { event.preventDefault(); this.#explain(dots[on].name); return; }
      const to = event.key === "Home" ? 0 : event.key === "End" ? dots.length - 1 : event.key in STEPS ? on + STEPS[event.key] : null;
      if (to === null) return;
      event.preventDefault();
      dots[on]?.element.classList.remove("on");
      on = Math.max(0, Math.min(dots.length - 1, to));
      dots[on].element.classList.add("on");
      place.marked.textContent = dots[on].says;
      place.host.dispatchEvent(new CustomEvent("spoken", {bubbles: true, detail: dots[on].says}));
    };
  }
}

function pane(id, question, name) {
  const says = element("p", "metric"), marked = element("p", "note"), host = element("div", "picture", {tabindex: "0", role: "group", "aria-label": `${question} Arrow keys walk through the items, Enter explains one.`});
  const keys = element("ul", "keys");
  return {host, says, marked, keys, name, root: element("article", "card", {"aria-labelledby": id, "data-picture": id}, element("h3", "", {id, tabindex: "-1"}, question), says, host, keys, marked)};
}

function show({host, says, marked, keys, name}, picture, entries, words) {
  host.replaceChildren(picture);
  host.onkeydown = null;
  keys.replaceChildren(...entries);
  keys.hidden = entries.length === 0;
  marked.textContent = "";
  says.replaceChildren(element("span", "", {}, name), element("span", "", {}, words));
}

const key = (state, words) => element("li", "", {}, element("i", `swatch area ${state}`, {"aria-hidden": "true"}), words);
