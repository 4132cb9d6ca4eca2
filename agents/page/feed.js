// The connection to the engine and the state it is in.
//
//     waiting ──first reading──▶ live ◀──ready──▶ catching-up
//        ▲                        │ nothing heard for 15 s, or the last reading is older
//        │ connected again        ▼
//     disconnected ◀──error──── stale ──still nothing: connect anew──▶ disconnected
//
// Held-back is live, by a worker that is ready and says why it shows no numbers all the same.
//
// On every connection the stream is opened first and the history fetched then; readings that arrive in between
// wait, so no change falls into the crack. Where several workers share an address, each request may reach another one:
// what is not told by the one that answered first ends the connection. What is heard says how old the last reading was
// by the server's clock, and from arrival to now the clock of this browser counts; the two are never compared.

const STALE_AFTER_MS = 15_000;   // three heartbeats missed
const RENEW_AFTER_MS = 45_000;   // a connection that is dead without saying so
const LOAD_WITHIN_MS = 30_000;
const RETRY_AFTER_MS = [1_000, 2_000, 4_000, 8_000, 15_000];
const PENDING_MAX = 1_000;
const ANOTHER = "another worker answered";

/** Reads the engine's API under `base` and tells `on.catalogue`, `on.history`, `on.reading`, `on.state`. */
export class Feed {
  #on;
  #base;
  #source = null;
  #opened = null;    // when the current connection opened
  #heard = null;     // when the last reading arrived
  #pending = null;   // readings that arrived before the history; null once it is there
  #worker = null;    // who answered first on the current connection
  #failures = 0;
  #retry = null;
  #last = {ready: false, reason: ""};
  #detail = "";

  constructor(base, on) {
    this.#base = base;
    this.#on = on;
  }

  /** Connects, and keeps connected. */
  start() {
    this.#connect();
    setInterval(() => this.#watch(), 1_000);
    window.addEventListener("online", () => this.#source ?? this.#connect());
    document.addEventListener("visibilitychange", () => document.hidden || this.#watch());
  }

  /** The name of the state, the reason where there is one, and the milliseconds since the last reading. */
  get state() {
    const age = this.#heard === null ? null : performance.now() - this.#heard + (this.#last.now - this.#last.at) * 1_000;
    return {name: this.#name(age), reason: this.#last.reason ?? "", detail: this.#detail, age};
  }

  #name(age) {
    if (this.#source === null || this.#opened === null) return this.#failures ? "disconnected" : "waiting";
    if (performance.now() - Math.max(this.#opened, this.#heard ?? 0) > STALE_AFTER_MS) return "stale";
    if (age === null || this.#heard < this.#opened || this.#pending) return "waiting";
    if (!this.#last.ready) return "catching-up";
    if (age > STALE_AFTER_MS) return "stale";
    return this.#last.reason ? "held-back" : "live";
  }

  #connect() {
    clearTimeout(this.#retry);
    this.#retry = null;
    this.#pending = [];
    this.#worker = null;
    const source = this.#source = new EventSource(new URL("api/live", this.#base));
    source.addEventListener("open", () => { this.#opened = performance.now(); this.#load(source); this.#tell(); });
    source.addEventListener("reading", event => this.#hear(JSON.parse(event.data)));
    source.addEventListener("error", () => this.#drop(source, "the event stream broke off"));
  }

  async #load(source) {
    try {
      const [catalogue, history] = await Promise.all([this.#get("api/catalogue"), this.#get("api/history")]);
      if (source !== this.#source) return;
      if (![catalogue, history].every(told => this.#isOurs(told))) throw new Error(ANOTHER);
      this.#on.catalogue({...catalogue, worker: undefined});   // a worker that starts again has the same page
      this.#on.history(history);
    } catch (error) {
      this.#drop(source, error instanceof Error ? error.message : String(error));
      return;
    }
    const waited = this.#pending;
    this.#pending = null;
    this.#failures = 0;
    this.#detail = "";
    waited.forEach(reading => this.#on.reading(reading));
    this.#tell();
  }

  async #get(path) {
    const answer = await fetch(new URL(path, this.#base), {cache: "no-store", signal: AbortSignal.timeout(LOAD_WITHIN_MS)});
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
    return answer.json();
  }

  #isOurs({worker}) { return (this.#worker ??= worker) === worker; }

  #hear(reading) {
    if (!this.#isOurs(reading)) { this.#drop(this.#source, ANOTHER); return; }
    this.#heard = performance.now();
    this.#last = reading;
    if (!this.#pending) this.#on.reading(reading);
    else if (this.#pending.push(reading) > PENDING_MAX) this.#drop(this.#source, "the history did not arrive");
    this.#tell();
  }

  #drop(source, detail) {
    if (source !== this.#source) return;
    source.close();
    this.#source = this.#opened = null;
    this.#detail = detail;
    const after = RETRY_AFTER_MS[Math.min(this.#failures++, RETRY_AFTER_MS.length - 1)];
    this.#retry = setTimeout(() => this.#connect(), after * (0.75 + Math.random() / 2));  // not all browsers at once
    this.#tell();
  }

  #watch() {
    const since = Math.max(this.#opened ?? 0, this.#heard ?? 0);
    if (this.#opened !== null && performance.now() - since > RENEW_AFTER_MS) this.#drop(this.#source, "nothing heard for 45 s");
    this.#tell();
  }

  #tell() { this.#on.state(this.state); }
}
