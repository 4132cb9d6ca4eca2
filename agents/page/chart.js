// One chart: uPlot with lines that hold, axes in human units, and a reading under the cursor.

import uPlot from "./vendor/uPlot.esm.js";
import {columns} from "./store.js";
import {fullTime, humanise, tick, tickSteps, timeOfDay, timeTick} from "./units.js";

const AXIS_WIDTH = 52;
const STROKES = ["", "", "", "", "dashed", "dashed", "dotted", "dotted"];  // colour is never the only difference
const DASHES = {"": [], dashed: [6, 3], dotted: [2, 3]};
const LEAST_SPREAD = {ratio: 0.1, score: 10, seconds: 1};
const LIMITS = {ratio: [0, 1]};
const USUALS_MAX = 3;  // of more lines what is usual would not be told apart: then that of the first is drawn

// Ink for a total, else Okabe–Ito in the order in which they are told apart best.
const colourOf = (index, total) => `--line-${total ? index : index + 1}`;

/** The mark that stands for line `index` wherever its name is written. */
export function swatch(index, total) {
  const mark = Object.assign(document.createElement("i"), {className: `swatch ${STROKES[index]}`, ariaHidden: "true"});
  mark.style.background = `var(${colourOf(index, total)})`;
  return mark;
}

/** A chart in `host`, drawn when it is looked at. */
export class Chart {
  #host;
  #unit;
  #plot = null;
  #lines = [];
  #total = false;
  #range = [0, 1];
  #visible = false;
  #due = false;
  #tip;

  constructor(host, unit) {
    this.#host = host;
    this.#unit = unit;
    this.#tip = host.appendChild(Object.assign(document.createElement("div"), {className: "tip", hidden: true}));
    new ResizeObserver(() => this.#resize()).observe(host);
    new IntersectionObserver(([entry]) => { this.#visible = entry.isIntersecting; this.#draw(); }, {rootMargin: "200px"}).observe(host);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#rebuild());
    host.addEventListener("keydown", event => this.#step(event));
    host.addEventListener("blur", () => this.#plot?.setCursor({left: -10, top: -10}));
  }

  /** Shows `lines` over the time `range`; the drawing waits until the chart is on the screen. */
  show(lines, total, range) {
    const same = lines.length === this.#lines.length && lines.every((line, i) => line.series === this.#lines[i].series);
    [this.#lines, this.#total, this.#range, this.#due] = [lines, total, range, true];
    if (!same) this.#rebuild();
    else this.#draw();
  }

  #rebuild() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#due = true;
    this.#draw();
  }

  #draw() {
    if (!this.#visible || !this.#due || this.#host.clientWidth === 0) return;
    this.#due = false;
    const table = columns(this.#lines.map(line => line.series), ...this.#range);
    if (this.#plot) this.#plot.setData(table);
    else this.#plot = new uPlot(this.#options(), table, this.#host);
    this.#point();
  }

  #resize() {
    if (this.#plot && this.#host.clientWidth) this.#plot.setSize(this.#size());
    else this.#draw();
  }

  #size() { return {width: this.#host.clientWidth, height: this.#host.clientHeight}; }

  #options() {
    const style = getComputedStyle(this.#host);
    const colour = name => style.getPropertyValue(name).trim();
    const axis = {stroke: colour("--muted"), font: `11px ${style.fontFamily}`, grid: {stroke: colour("--grid"), width: 1}, ticks: {show: false}};
    return {
      ...this.#size(),
      padding: [8, 20, 0, 0],
      legend: {show: false},
      cursor: {sync: {key: "page", setSeries: false}, y: false, points: {show: false}, drag: {x: false, y: false, setScale: false}},
      scales: {x: {time: true, range: () => this.#range}, y: {range: (_, low, high) => valueRange(...this.#withUsual(low, high), this.#unit)}},
      series: [{}, ...this.#lines.map((_, i) => ({
        stroke: colour(colourOf(i, this.#total)), width: this.#total && i === 0 ? 2.25 : 1.75,
        dash: DASHES[STROKES[i]], cap: "round", paths: heldLine, points: {show: false},
      }))],
      axes: [
        {...axis, size: 22, gap: 4, space: 64, values: (_, splits, __, ___, step) => splits.map(at => timeTick(at, step))},
        {...axis, size: AXIS_WIDTH, gap: 4, space: 34, incrs: tickSteps(this.#unit),
          values: (_, splits, __, ___, step) => splits.map(value => tick(value, this.#unit, step))},
      ],
      hooks: {setCursor: [() => this.#point()], drawAxes: [plot => this.#drawUsual(plot, colour)]},
    };
  }

  #usuals() {
    const all = this.#lines.map(({series: {usual, bandLow, bandHigh}}, i) => ({usual, limit: bandHigh ?? bandLow, ink: colourOf(i, this.#total)}));
    const known = all.filter(({usual}) => usual !== null);
    return known.length > USUALS_MAX ? known.slice(0, 1) : known;
  }

  // How far a value is from what is usual can only be seen where both are in the picture.
  #withUsual(low, high) {
    if (low === null || high === null) return [low, high];
    const marks = this.#usuals().flatMap(({usual, limit}) => [usual, limit ?? usual]);
    return [Math.min(low, ...marks), Math.max(high, ...marks)];
  }

  // Under each line what is usual now, a band from there to where it would be suspect, and that limit.
  #drawUsual(plot, colour) {
    const {ctx, bbox: {left, top, width, height}} = plot, y = value => Math.round(plot.valToPos(value, "y", true));
    const across = (at, ink, dash) => {
      at += devicePixelRatio % 2 / 2;  // on pixels, not between them
      ctx.strokeStyle = ink;
      ctx.setLineDash(dash.map(length => length * devicePixelRatio));
      ctx.beginPath();
      ctx.moveTo(left, at);
      ctx.lineTo(left + width, at);
      ctx.stroke();
    };
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    ctx.lineWidth = devicePixelRatio;
    for (const {usual, limit, ink} of this.#usuals()) {
      const at = y(usual), end = y(limit ?? usual);
      Object.assign(ctx, {fillStyle: colour(ink), globalAlpha: 0.12});
      ctx.fillRect(left, Math.min(at, end), width, Math.abs(end - at));
      ctx.globalAlpha = 0.8;
      across(at, colour(ink), [2, 2]);
      if (limit !== null) across(end, colour("--bad"), [6, 4]);
    }
    ctx.restore();
  }

  // The values that held at the time under the cursor, not those of the nearest point: it may lie to the right.
  #point() {
    const {left, idx} = this.#plot?.cursor ?? {};
    const here = idx != null && left >= 0 && this.#host.matches(":hover, :focus");
    this.#tip.hidden = !here;
    if (!here) return;
    const at = this.#plot.posToVal(left, "x");
    const time = Object.assign(document.createElement("time"), {textContent: timeOfDay(at), title: fullTime(at)});
    this.#tip.replaceChildren(time, ...this.#lines.map((line, i) => tipRow(line, at, this.#unit, swatch(i, this.#total))));
    const before = AXIS_WIDTH + left - 12, after = this.#host.clientWidth - before - 24, toLeft = before > after;
    this.#tip.style.left = toLeft ? "auto" : `${before + 24}px`;
    this.#tip.style.right = toLeft ? `${after + 24}px` : "auto";
    this.#tip.style.maxWidth = `${Math.max(before, after)}px`;
  }

  // Arrow keys walk through time: a fiftieth of the width a step, a tenth with shift.
  #step(event) {
    const plot = this.#plot;
    if (!plot || !["ArrowLeft", "ArrowRight", "Home", "End", "Escape"].includes(event.key)) return;
    event.preventDefault();
    const width = plot.over.clientWidth, from = plot.cursor.left >= 0 ? plot.cursor.left : width;
    const by = (event.shiftKey ? width / 10 : width / 50) * (event.key === "ArrowLeft" ? -1 : 1);
    const to = {Home: 0, End: width - 1, Escape: -10}[event.key] ?? Math.max(0, Math.min(width - 1, from + by));
    plot.setCursor({left: to, top: to < 0 ? -10 : 10});
    this.#host.dispatchEvent(new CustomEvent("spoken", {bubbles: true, detail: to < 0 ? "" : this.#tip.innerText}));
  }
}

function tipRow({series, name}, at, unit, mark) {
  const row = document.createElement("div"), label = document.createElement("span");
  const index = series.indexAt(at), value = index < 0 ? null : series.values[index];
  label.textContent = name;
  label.className = "name";
  row.append(mark, label, Object.assign(document.createElement("b"), {textContent: value === null ? "no data" : humanise(value, unit)}));
  return row;
}

// Counts and durations start at zero, so height means size; shares and scores fill the height, but never blow
// up noise: the axis spans at least the least spread.
function valueRange(low, high, unit) {
  if (low === null || high === null) return [0, LEAST_SPREAD[unit] ?? 1];
  if (unit !== "ratio" && unit !== "score") return [Math.min(0, low), Math.max(high * 1.08, LEAST_SPREAD[unit] ?? 1)];
  const missing = Math.max(0, LEAST_SPREAD[unit] - (high - low)), pad = (high - low) * 0.08 + missing / 2;
  const [floor, ceiling] = LIMITS[unit] ?? [-Infinity, Infinity];
  const bottom = Math.max(floor, low - pad), top = Math.min(ceiling, high + pad);
  return [Math.max(floor, Math.min(bottom, top - LEAST_SPREAD[unit])), Math.min(ceiling, Math.max(top, bottom + LEAST_SPREAD[unit]))];
}

// uPlot's own stepped path stops at the last point before a gap. A reading holds until it is taken back, so the
// line runs on to the moment of absence and starts anew after it. Within one pixel column only the extremes
// are drawn: two thousand points cost no more than the width of the chart.
function heldLine(plot, index) {
  const [times, values] = [plot.data[0], plot.data[index]], {left, top, width, height} = plot.bbox;
  const {x, y} = plot.scales, stroke = new Path2D();
  const pixelX = at => Math.round(left + ((at - x.min) / (x.max - x.min)) * width);
  const pixelY = value => Math.round(top + height - ((value - y.min) / (y.max - y.min)) * height);
  let column = NaN, now = null, low = 0, high = 0;
  const settle = () => { if (low < high) { stroke.lineTo(column, low); stroke.lineTo(column, high); stroke.lineTo(column, now); } };
  for (let k = 0; k < times.length; k++) {
    const value = values[k], at = pixelX(times[k]);
    if (now !== null && at !== column) {
      settle();
      stroke.lineTo(at, now);
      low = high = now;
    }
    if (value !== null) {
      const to = pixelY(value);
      if (now === null) { stroke.moveTo(at, to); stroke.lineTo(at, to); low = high = to; }
      [low, high] = [Math.min(low, to), Math.max(high, to)];
      now = to;
    } else if (now !== null) { settle(); now = null; }
    column = at;
  }
  if (now !== null) settle();
  return {stroke, fill: null, clip: null, band: null, gaps: null, flags: 0};
}
