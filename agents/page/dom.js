// Elements made in one call. Text is only ever set as text, never as markup: a label is what somebody's tool sent.

/** An element with a class, attributes and children; children that are strings become text. */
export function element(tag, className = "", attributes = {}, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
