// Numbers, durations and times as words. Pure: nothing here knows the page.

const MINUTE = 60, HOUR = 3600, DAY = 86400;
const MINUS = "\u2212", NBSP = "\u00a0";  // a no-break space keeps a number and its unit on one line

const fixed = digits => new Intl.NumberFormat("en", {maximumFractionDigits: digits});
const [whole, tenth, hundredth] = [fixed(0), fixed(1), fixed(2)];
const compact = new Intl.NumberFormat("en", {notation: "compact", maximumSignificantDigits: 4});

/** A value in the KPI's unit, short enough for a headline: `3.2 d`, `42.5 %`, `+31`, `1,204`. */
export function humanise(value, unit) {
  if (unit === "seconds") return duration(value);
  if (unit === "ratio") return percent(value);
  if (unit === "score") return signed(value);
  return count(value);
}

/** The word after a count (`items`, `users`); units that carry their own sign have none. */
export function unitWord(value, unit) {
  if (!["items", "users", "requests"].includes(unit)) return "";
  return value === 1 ? unit.slice(0, -1) : unit;
}

// Rounded first, then split, so that 59.7 minutes is never "59 m 60 s" and 23:59:40 is "1 d".
export function duration(seconds) {
  if (seconds < 0) return MINUS + duration(-seconds);
  if (seconds === 0) return `0${NBSP}s`;
  if (seconds < 0.9995) return seconds < 0.001 ? `<1${NBSP}ms` : `${whole.format(seconds * 1000)}${NBSP}ms`;
  if (seconds < 9.95) return `${tenth.format(seconds)}${NBSP}s`;
  const s = Math.round(seconds);
  if (s < MINUTE) return `${s}${NBSP}s`;
  if (s < HOUR) return two(Math.floor(s / MINUTE), "m", s % MINUTE, "s");
  const m = Math.round(seconds / MINUTE);
  if (m < DAY / MINUTE) return two(Math.floor(m / 60), "h", m % 60, "m");
  const days = seconds / DAY;
  return `${(days < 99.95 ? tenth : whole).format(days)}${NBSP}d`;
}

const two = (a, unitA, b, unitB) => `${a}${NBSP}${unitA}` + (b ? `${NBSP}${b}${NBSP}${unitB}` : "");

// A share that is not quite nothing or not quite everything never reads as 0 % or 100 %.
function percent(ratio) {
  const shown = tenth.format(ratio * 100).replace("-", MINUS);
  if (ratio > 0 && shown === "0") return `<0.1${NBSP}%`;
  if (ratio < 1 && shown === "100") return `>99.9${NBSP}%`;
  return `${shown}${NBSP}%`;
}

function signed(score) {
  const size = tenth.format(Math.abs(score));
  if (size === "0") return "0";
  return (score < 0 ? MINUS : "+") + size;
}

function count(number) {
  const format = Math.abs(number) >= 1e6 ? compact : Number.isInteger(number) ? whole : tenth;
  return format.format(number).replace("-", MINUS);
}

/** Every digit there is, for a tooltip. */
export function exact(value, unit) {
  const digits = new Intl.NumberFormat("en", {maximumFractionDigits: 6}).format(value);
  return unit === "ratio" || unit === "score" ? digits : `${digits} ${unit}`;
}

// One fixed step list per unit: round numbers of days are 86,400 apart, not 100,000.
const decimal = [1, 2, 5];
const decades = (from, to) => {
  const steps = [];
  for (let power = from; power <= to; power++) for (const d of decimal) steps.push(Number(`${d}e${power}`));
  return steps;
};
const STEPS = {
  seconds: [...decades(-3, -1), 1, 2, 5, 10, 15, 30, ...[1, 2, 5, 10, 15, 30].map(n => n * MINUTE),
    ...[1, 2, 3, 6, 12].map(n => n * HOUR), ...[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map(n => n * DAY)],
  ratio: decades(-4, 1),
  score: decades(-2, 3),
};
const COUNTS = decades(0, 12);

/** The distances between ticks that read well in this unit. */
export const tickSteps = unit => STEPS[unit] ?? COUNTS;

/** One tick of the value axis, given the distance between ticks. */
export function tick(value, unit, step) {
  if (value === 0) return "0";
  if (unit === "ratio") return `${hundredth.format(value * 100)}%`;
  if (unit === "score") return (value < 0 ? MINUS : "+") + hundredth.format(Math.abs(value));
  if (unit !== "seconds") return Math.abs(value) >= 1e4 ? compact.format(value) : tenth.format(value);
  if (step >= 12 * HOUR) return `${tenth.format(value / DAY)} d`;
  if (step >= 30 * MINUTE) return `${tenth.format(value / HOUR)} h`;
  if (step >= 30) return `${tenth.format(value / MINUTE)} m`;
  return step >= 1 ? `${whole.format(value)} s` : `${whole.format(value * 1000)} ms`;
}

const moment = options => new Intl.DateTimeFormat("en-GB", options);
const clock = moment({hour: "2-digit", minute: "2-digit", second: "2-digit"});
const hourMinute = moment({hour: "2-digit", minute: "2-digit"});
const dayMonth = moment({day: "numeric", month: "short"});
const full = moment({dateStyle: "full", timeStyle: "long"});

/** Time of day, with the date when it is not today's. */
export function timeOfDay(at, now = Date.now()) {
  const then = new Date(at * 1000);
  const today = new Date(now).toDateString() === then.toDateString();
  return today ? clock.format(then) : `${dayMonth.format(then)} ${clock.format(then)}`;
}

/** Date, time and zone in full. */
export const fullTime = at => full.format(new Date(at * 1000));

/** One tick of the time axis: the date at midnight, else the time as finely as the step needs. */
export function timeTick(at, step) {
  const then = new Date(at * 1000);
  if (step >= DAY || (then.getHours() === 0 && then.getMinutes() === 0 && then.getSeconds() === 0)) return dayMonth.format(then);
  return (step < MINUTE ? clock : hourMinute).format(then);
}

/** Seconds in `15m`, `7d`; null for what is not a length of time. */
export function span(text) {
  const match = /^(\d+(?:\.\d+)?)(s|m|h|d|w)$/.exec(text);
  return match && Number(match[1]) * {s: 1, m: MINUTE, h: HOUR, d: DAY, w: 7 * DAY}[match[2]];
}
