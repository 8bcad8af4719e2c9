// The page of somebody who watches another member's terminal: xterm.js at one end of a WebSocket. What the two say to each
// other is told in src/terminal/wire.rs.
"use strict";

(() => {

/** No letters smaller than this: what is wider is scrolled to. */
const SMALLEST = 7;

const { copy, darkness, keep, names, settings, theme, typists } = window.terminalLook;
const place = document.getElementById("terminal");
const { path, you } = place.dataset;
const before = document.getElementById("before");
const statusLine = document.getElementById("status");
const againButton = document.getElementById("again");
const audience = document.getElementById("audience");
const encoder = new TextEncoder();

let terminal;
let watched;
let typing = [];

const line = window.terminalLine({ address: `${path}/open`, terminal: () => terminal, tell, heard });
const follow = typists((people) => {
  typing = people;
  tellAudience();
});

/** The terminal answers what programs ask it only where its owner does; so what this page sends, a person has typed. */
function muted(terminal) {
  const silent = () => true;
  const { parser } = terminal;
  for (const id of [{ final: "c" }, { prefix: ">", final: "c" }, { prefix: "=", final: "c" }, { final: "n" },
    { prefix: "?", final: "n" }, { prefix: ">", final: "q" }, { intermediates: "$", final: "p" },
    { prefix: "?", intermediates: "$", final: "p" }, { final: "t" }]) parser.registerCsiHandler(id, silent);
  parser.registerDcsHandler({ intermediates: "$", final: "q" }, silent);
  for (const colours of [4, 10, 11, 12]) parser.registerOscHandler(colours, (data) => data.includes("?"));
  parser.registerCsiHandler({ prefix: "?", final: "h" }, (which) => which.includes(1004));
}

function make() {
  terminal = new Terminal({ ...settings(), scrollback: 0, disableStdin: true });
  terminal.open(place);
  muted(terminal);
  darkness.addEventListener("change", () => { terminal.options.theme = theme(); });
  new ResizeObserver(() => requestAnimationFrame(fit)).observe(place);
  terminal.onData((text) => { if (watched?.typing) line.type(encoder.encode(text)); });
  terminal.attachCustomKeyEventHandler((event) => {
    if (!event.ctrlKey || !event.shiftKey || event.altKey || event.metaKey) return true;
    if (event.code === "Space") {
      if (event.type === "keydown") document.getElementById("leave").focus();
      event.preventDefault();
      return false;
    }
    if (event.code === "KeyC") {
      if (event.type === "keydown") copy(terminal);
      event.preventDefault();
      return false;
    }
    return event.code !== "KeyV";
  });
  keep(document.getElementById("reader"), terminal);
}

/** The owner's columns and lines, in letters as large as fit in here. */
function fit() {
  if (!watched || !watched.columns || !place.clientWidth) return;
  const { columns, rows } = watched;
  if (terminal.cols !== columns || terminal.rows !== rows) terminal.resize(columns, rows);
  const screen = place.querySelector(".xterm-screen");
  const largest = settings().fontSize;
  const wide = screen.offsetWidth / terminal.options.fontSize;
  const high = screen.offsetHeight / terminal.options.fontSize;
  const fits = Math.min((place.clientWidth - 24) / wide, (place.clientHeight - 16) / high);
  const size = Math.max(SMALLEST, Math.min(largest, Math.floor(fits * 2) / 2));
  if (size !== terminal.options.fontSize) terminal.options.fontSize = size;
}

function tell(words, button) {
  statusLine.textContent = words;
  againButton.hidden = !button;
}

/** Says at all times whose it is, what one may, and who else is there. */
function tellAudience() {
  if (!watched) return;
  const others = watched.watchers.map(({ name }) => name).filter((name) => name !== you);
  const who = others.length ? ` So ${new Set(others).size > 1 ? "do" : "does"} ${names(others)}.` : "";
  const may = watched.typing
    ? ` You may type: you do it as ${watched.by}, who sees that you do.`
    : " Read-only.";
  const busy = typing.filter((name) => name !== you);
  const types = busy.length ? ` ${names(busy)} ${busy.length > 1 ? "type" : "types"}.` : "";
  const words = `You watch ${watched.by}’s terminal, and ${watched.by} sees your name, ${you}.${who}${may}${types}`;
  if (audience.textContent !== words) audience.textContent = words;
  audience.hidden = false;
}

/** Acts on what the server says. True for the last word. */
function heard(message) {
  switch (message.is) {
    case "watching":
      watched = message;
      terminal.options.disableStdin = !message.typing;
      if (!line.is("open")) tell("You see it when the VM is awake…");
      fit();
      follow(message.watchers);
      return false;
    case "away":
      line.turn("connecting");
      tell(`${message.by} is not there. You see the terminal again when ${message.by} is back.`);
      return false;
    case "over":
      over(message.why);
      return true;
    case "failed":
      over(message.why, message.again);
      return true;
    case "restarting":
      over("Berth is being restarted, which ends this link. Ask for another one.");
      return true;
    default:
      return false;
  }
}

function over(words, button) {
  line.turn("over");
  terminal.options.disableStdin = true;
  audience.hidden = true;
  watched = undefined;
  tell(words, button);
  if (place.contains(document.activeElement)) (button ? againButton : document.getElementById("leave")).focus();
}

function begin() {
  before.hidden = true;
  document.getElementById("foot").hidden = false;
  place.hidden = false;
  if (!terminal) make();
  tell("Connecting…");
  line.connect(false);
  terminal.focus();
}

document.getElementById("watch").addEventListener("click", begin);
againButton.addEventListener("click", begin);
})();
