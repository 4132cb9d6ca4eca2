// The pictures of work as SVG: cumulative flow, and dots over a scale of durations. Drawn anew at another width;
// colours are those of the style sheet, so light and dark need no drawing.

import {duration, timeTick} from "./units.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 260, LEFT = 46, RIGHT = 14, TOP = 10, BOTTOM = 24;
const MINUTE = 60, HOUR = 3600, DAY = 86400;
const TIMES = [1, 5, 15].map(n => n * MINUTE).concat([1, 3, 8].map(n => n * HOUR), [1, 2, 5, 10, 20, 50, 100, 200, 400].map(n => n * DAY));
const STATES = ["new", "waiting", "active", "done"];   // from the top down

const svg = (tag, attributes = {}, ...children) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
const text = (x, y, said, className, anchor = "middle") => svg("text", {x, y, class: className, "text-anchor": anchor}, said);

function frame(width, label) {
  return svg("svg", {width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label});
}

function timeAxis(picture, width, from, until) {
  const count = Math.max(2, Math.floor((width - LEFT - RIGHT) / 90)), x = at => LEFT + (at - from) / (until - from) * (width - LEFT - RIGHT);
  for (let n = 0; n <= count; n++) {
    const at = from + (until - from) * n / count;
    picture.append(text(x(at), HEIGHT - 7, timeTick(at, until - from > 2 * DAY ? DAY : HOUR), "tick", n === 0 ? "start" : n === count ? "end" : "middle"));
  }
  return x;
}

/** How many items were in each state, as areas upon each other: done at the bottom, new at the top. */
export function cumulativeFlow(width, {instants, counts}) {
  const picture = frame(width, "Cumulative flow: how many items were in each state"), x = timeAxis(picture, width, instants[0], instants.at(-1));
  const known = STATES.filter(state => counts[state]?.some(count => count > 0));
  const most = Math.max(1, ...instants.map((_, i) => known.reduce((sum, state) => sum + counts[state][i], 0)));
  const y = count => HEIGHT - BOTTOM - count / most * (HEIGHT - TOP - BOTTOM);
  for (const part of [0, .5, 1]) {
    const count = Math.round(most * part);
    picture.append(svg("line", {x1: LEFT, x2: width - RIGHT, y1: y(count), y2: y(count), class: "rule"}), text(LEFT - 6, y(count) + 4, String(count), "tick", "end"));
  }
  let below = instants.map(() => 0);
  for (const state of [...known].reverse()) {
    const above = below.map((base, i) => base + counts[state][i]), floor = below;
    const points = [...above.map((count, i) => [x(instants[i]), y(count)]), ...floor.map((count, i) => [x(instants[i]), y(count)]).reverse()];
    picture.append(svg("polygon", {points: points.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(" "), class: `area ${state}`},
      svg("title", {}, `${state}: ${counts[state][0]} at first, ${counts[state].at(-1)} now`)));
    below = above;
  }
  return picture;
}

/** The states that a cumulative flow shows, from the top down. */
export const flowStates = counts => STATES.filter(state => counts[state]?.some(count => count > 0));

function durationAxis(picture, width, values) {
  const most = Math.max(...values, 2 * MINUTE), low = Math.max(most / 3000, Math.min(...values)) * .8, high = most * 1.15;
  const y = seconds => HEIGHT - BOTTOM - Math.log(Math.max(seconds, low) / low) / Math.log(high / low) * (HEIGHT - TOP - BOTTOM);
  let last = Infinity;
  for (const seconds of TIMES) {
    if (seconds < low || seconds > high || last - y(seconds) < 18) continue;
    last = y(seconds);
    picture.append(svg("line", {x1: LEFT, x2: width - RIGHT, y1: last, y2: last, class: "rule"}), text(LEFT - 6, last + 4, duration(seconds), "tick", "end"));
  }
  return y;
}

function percentileLines(picture, width, y, percentiles) {
  let last = -Infinity;
  for (const [name, seconds] of Object.entries(percentiles).sort(([, a], [, b]) => b - a)) {
    const at = y(seconds), place = Math.max(at - 4, last + 13);   // names that would lie upon each other move down
    last = place;
    picture.append(svg("line", {x1: LEFT, x2: width - RIGHT, y1: at, y2: at, class: "percentile"}),
      text(width - RIGHT - 2, place, `${name} ${duration(seconds)}`, "percentile-name", "end"));
  }
}

const dot = (x, y, says, className) => svg("circle", {cx: x.toFixed(1), cy: y.toFixed(1), r: 4, class: `dot ${className}`}, svg("title", {}, says));

/** A dot for each item done: when, and after how long. Gives the picture and its dots, in order of time. */
export function scatter(width, {instants, finished, percentiles}) {
  const picture = frame(width, "Flow times of the items done, with percentiles"), x = timeAxis(picture, width, instants[0], instants.at(-1));
  const y = durationAxis(picture, width, [...finished.map(([, , , seconds]) => seconds), ...Object.values(percentiles)]);
  return withDots(picture, () => percentileLines(picture, width, y, percentiles), finished.map(([name, type, at, seconds]) => [name, x(at), y(seconds), `${name} (${type}): ${duration(seconds)}`, "done"]));
}

/** A dot for each item in progress, by state: how old it is, against the flow times of those done. */
export function ageing(width, {ageing: open, percentiles}) {
  const picture = frame(width, "Ages of the items in progress, by state, with percentiles of flow time");
  const states = STATES.filter(state => open.some(one => one[2] === state)), column = (width - LEFT - RIGHT) / Math.max(1, states.length);
  const y = durationAxis(picture, width, [...open.map(([, , , seconds]) => seconds), ...Object.values(percentiles)]);
  states.forEach((state, n) => picture.append(text(LEFT + column * (n + .5), HEIGHT - 7, `${state}: ${open.filter(one => one[2] === state).length}`, "tick")));
  return withDots(picture, () => percentileLines(picture, width, y, percentiles), open.map(([name, type, state, seconds, title], n) =>
    [name, LEFT + column * (states.indexOf(state) + .5 + spread(n) * .6), y(seconds), `${name} (${type}, ${state}): ${duration(seconds)}${title ? `, ${title}` : ""}`, state]));
}

const spread = n => ((n * 0.618034) % 1) - 0.5;   // golden ratio: neighbours in age lie apart, and the same way each time

function withDots(picture, above, dots) {
  const made = dots.map(([name, x, y, says, className]) => ({name, says, element: dot(x, y, says, className)}));
  picture.append(...made.map(({element}) => element));
  above();
  return {picture, dots: made};
}
