// From a number down: a dialog with the items behind it, and from each of them to why it is read so.

import {element} from "./dom.js";
import {explanation, itemsBehind, show} from "./details.js";
import {fullTime, humanise, timeOfDay} from "./units.js";

const grouped = new Intl.NumberFormat("en");
const KINDS = {item: ["item", "items"], request: ["request", "requests"], customer: ["person", "people"]};

/** The one dialog of the page. `openFor` shows who is behind a series, `openOf` one item. */
export class Behind {
  #title = element("h2", "", {id: "behind-title", tabindex: "-1"});
  #back = element("button", "back", {type: "button", hidden: ""}, "← back to the list");
  #body = element("div", "body", {"aria-live": "polite"});
  #dialog = element("dialog", "behind", {"aria-labelledby": "behind-title"});
  #asked = 0;
  #again = null;

  constructor(host) {
    const close = element("button", "close", {type: "button"}, "Close");
    close.addEventListener("click", () => this.#dialog.close());
    this.#back.addEventListener("click", () => this.#again?.());
    this.#dialog.addEventListener("click", event => { if (event.target === this.#dialog) this.#dialog.close(); });
    this.#dialog.append(element("header", "", {}, this.#title, this.#back, close), this.#body);
    host.append(this.#dialog);
  }

  /** Shows who is behind a series of a KPI. */
  openFor(kpi, series) {
    const {value_stream: stream, ...labels} = series.labels;
    const words = Object.entries(labels).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(", ");
    const title = `${kpi.name.replaceAll("_", " ")} of ${stream}`;
    const list = () => this.#fill(title, () => itemsBehind(kpi.name, series.labels), told => this.#list(told, kpi, words, list), null);
    list();
  }

  /** Shows why one item is read as it is; `again` leads back to where it was found. */
  openOf(kind, name, again = null) {
    this.#fill(`${kind} ${name}`, () => explanation(kind, name), ({lines}) => [element("pre", "why", {tabindex: "0"}, lines.join("\n"))], again);
  }

  // What was asked for last is shown, whatever is answered first.
  async #fill(title, question, answer, again) {
    const asked = ++this.#asked;
    this.#again = again;
    this.#back.hidden = again === null;
    this.#title.textContent = title;
    this.#body.replaceChildren(element("p", "", {}, "asking the engine …"));
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#title.focus();
    let content;
    try { content = answer(await question()); }
    catch (error) { content = error.status === 401 ? this.#token(() => this.#fill(title, question, answer, again)) : [element("p", "wrong", {role: "alert"}, error.message)]; }
    if (asked === this.#asked) this.#body.replaceChildren(...content);
  }

  #list({total, complete, rows, rows_max: most}, kpi, words, again) {
    const kind = KINDS[rows[0]?.kind ?? "item"][total === 1 ? 0 : 1];
    const shown = total > rows.length ? `; the ${grouped.format(most)} that tell most are listed` : "";
    const intro = element("p", "", {}, total ? `${grouped.format(total)} ${kind}${shown}. ${words}` : `Nobody is behind it now. ${words}`);
    const cut = complete ? [] : [element("p", "wrong", {}, "There are too many histories to search all of them: some are missing here.")];
    return [intro, ...cut, ...(rows.length ? [this.#table(rows, kpi, again)] : [])];
  }

  #table(rows, kpi, again) {
    const measures = [...new Set(rows.flatMap(row => row.said.filter(said => said.value !== null).map(said => said.measure)))];
    const state = rows.some(row => row.state !== null), head = text => element("th", "", {scope: "col"}, text);
    return element("div", "scrolls", {tabindex: "0", role: "region", "aria-label": "items behind the number"}, element("table", "", {},
      element("thead", "", {}, element("tr", "", {}, head("name"), ...(state ? [head("state")] : []), ...measures.map(name => head(name.replace(/_us$/, "").replaceAll("_", " "))), head("when"))),
      element("tbody", "", {}, ...rows.map(row => element("tr", "", {},
        element("th", "", {scope: "row"}, this.#link(row, again), ...(row.title ? [element("span", "title", {}, ` ${row.title}`)] : [])),
        ...(state ? [element("td", "", {}, row.state ?? "")] : []),
        ...measures.map(name => element("td", "figure", {}, valueOf(row, name, kpi))),
        element("td", "", {title: fullTime(row.at)}, timeOfDay(row.at)))))));
  }

  #link({kind, name}, again) {
    const link = element("button", "link", {type: "button"}, name);
    link.addEventListener("click", () => this.openOf(kind, name, again));
    return link;
  }

  #token(retry) {
    const field = element("input", "", {type: "password", autocomplete: "off", required: ""}), form = element("form", "token", {},
      element("p", "", {}, "What names work and people takes the token that senders of events show (http.token_file). It is kept until this tab is closed."),
      element("label", "", {}, "token ", field), element("button", "", {type: "submit"}, "Show"));
    form.addEventListener("submit", event => { event.preventDefault(); show(field.value); retry(); });
    return [form];
  }
}

function valueOf(row, measure) {
  const said = row.said.find(one => one.measure === measure);
  if (!said || said.value === null) return "";
  return said.unit === "score" ? String(said.value) : humanise(said.value, said.unit);
}
