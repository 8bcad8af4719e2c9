// How a terminal looks, for the pages that have one.
"use strict";

window.terminalLook = (() => {

// The policy of this site allows no style elements and no style attributes. xterm.js writes rules into the former and
// colours into the latter; both are turned into what a script does to style sheets and styles, which the policy allows.
{
  const create = document.createElement.bind(document);
  document.createElement = (name, options) =>
    String(name).toLowerCase() === "style" ? asSheet(create("template")) : create(name, options);
  HTMLSpanElement.prototype.setAttribute = function (name, value) {
    if (name === "style") this.style.cssText = value;
    else Element.prototype.setAttribute.call(this, name, value);
  };
}

function asSheet(element) {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  Object.defineProperty(element, "textContent", { set: (rules) => sheet.replaceSync(rules), get: () => "" });
  Object.defineProperty(element, "sheet", { get: () => sheet });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}

// How it looks

const DARK = {
  black: "#2b3533", red: "#ff8f85", green: "#6bcf87", yellow: "#e6b35a", blue: "#8fb4ff", magenta: "#dba0f0",
  cyan: "#5ccbc2", white: "#d5dcd9", brightBlack: "#8a9692", brightRed: "#ffb1aa", brightGreen: "#97e2ab",
  brightYellow: "#f2cf8f", brightBlue: "#b4cdff", brightMagenta: "#ebc4f8", brightCyan: "#86ddd6", brightWhite: "#ffffff",
};
const LIGHT = {
  black: "#17201e", red: "#b3261e", green: "#1a7336", yellow: "#8f5b00", blue: "#2456b8", magenta: "#8a2c9e",
  cyan: "#0b6b6b", white: "#6a7571", brightBlack: "#55605c", brightRed: "#c9372c", brightGreen: "#23813f",
  brightYellow: "#9a6700", brightBlue: "#3568d4", brightMagenta: "#9c3db0", brightCyan: "#0f7d7d", brightWhite: "#17201e",
};
const darkness = matchMedia("(prefers-color-scheme: dark)");

function theme() {
  const own = getComputedStyle(document.documentElement);
  const value = (name) => own.getPropertyValue(name).trim();
  return {
    ...(darkness.matches ? DARK : LIGHT),
    background: value("--surface"), foreground: value("--text"), cursor: value("--accent"),
    cursorAccent: value("--surface"), selectionBackground: darkness.matches ? "#2d5653" : "#b9dedb",
  };
}

const narrow = matchMedia("(max-width: 640px)");

/** What every terminal begins with. */
function settings() {
  return {
    fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
    fontSize: narrow.matches ? 12 : 14,
    lineHeight: 1.15,
    scrollback: 10000,
    theme: theme(),
    minimumContrastRatio: 4.5,
    screenReaderMode: stored("reader") === "on",
  };
}

function stored(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Has a box turn on what screen readers need, now and on the next page. */
function keep(reader, terminal) {
  reader.checked = terminal.options.screenReaderMode;
  reader.addEventListener("change", () => {
    terminal.options.screenReaderMode = reader.checked;
    try {
      localStorage.setItem("reader", reader.checked ? "on" : "off");
    } catch {
      // It holds for this page then.
    }
  });
}

async function copy(terminal) {
  const text = terminal.getSelection();
  if (!text) return;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers keep the clipboard from pages without TLS, but not from what they call an old way.
    document.execCommand("copy");
  }
}

/** "bob and carol", "alice, bob and carol": whoever is there twice is named once. */
function names(people) {
  const each = [...new Set(people)];
  const last = each.pop();
  return each.length ? `${each.join(", ")} and ${last}` : last ?? "";
}

/** Follows who types, and calls back with their names whenever those are others. */
function typists(show) {
  const ONE = 3000;
  let counts = new Map();
  const until = new Map();
  let timer;
  const tell = () => {
    clearTimeout(timer);
    const now = Date.now();
    for (const [name, at] of until) if (at <= now) until.delete(name);
    show([...until.keys()]);
    if (until.size) timer = setTimeout(tell, Math.min(...until.values()) - now + 20);
  };
  return (watchers) => {
    const seen = new Map();
    for (const { name, typed } of watchers) {
      const sum = (seen.get(name) ?? 0) + typed;
      seen.set(name, sum);
    }
    for (const [name, sum] of seen) if (sum > (counts.get(name) ?? 0)) until.set(name, Date.now() + ONE);
    for (const name of until.keys()) if (!seen.has(name)) until.delete(name);
    counts = seen;
    tell();
  };
}

return { copy, darkness, keep, names, settings, stored, theme, typists };
})();
