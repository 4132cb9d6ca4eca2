// What names work and people, asked of the engine on demand: items behind a number, why one is read so, pictures.
//
// Where the engine asks for a token, the reader is asked for it once; it is kept in this tab's memory only.

export class DetailsError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let token = null;

/** The token that is shown with each question from now on. */
export const show = given => { token = given; };

/** Whether a token was given. */
export const isShown = () => token !== null;

/** The JSON under a path with parameters. Throws a DetailsError with a sentence for the reader. */
export async function ask(path, parameters = {}) {
  const url = new URL(`api/${path}`, document.baseURI);
  url.search = new URLSearchParams(parameters);
  const headers = token === null ? {} : {Authorization: `Bearer ${token}`};
  let answer;
  try { answer = await fetch(url, {cache: "no-store", headers}); }
  catch { throw new DetailsError(0, "The engine does not answer. Try again when the page is live."); }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new DetailsError(answer.status, told.error ?? `The engine answered ${answer.status}.`);
  return told;
}

export const itemsBehind = (kpi, labels) => ask("items", {kpi, ...labels});
export const explanation = (kind, name) => ask(`explain/${kind}/${encodeURIComponent(name)}`);
export const work = (stream, window) => ask("work", {value_stream: stream, window});
