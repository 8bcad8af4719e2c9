// The page of somebody who watches another member's terminal: xterm.js at one end of a WebSocket. What the two say to each
// other is told in src/terminal/wire.rs.
"use strict";

(() => {

/** The server sends at most 256 KiB that were not said to be drawn; so often it is told. */
const SAY_DRAWN = 16 * 1024;
const SAY_DRAWN_AFTER = 40;
/** Of what is typed, at most so much is on its way, in messages of this size. */
const WINDOW = 64 * 1024;
const MESSAGE = 8 * 1024;
/** Pauses between tries to connect, in milliseconds. */
const PAUSES = [300, 1000, 2000, 4000, 8000, 15000];
const GOOD = 10000;
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
let state = "before";
let socket;
let tries = 0;
let timer;
let openedAt = 0;
let drawn = 0;
let drawnTimer;
let fresh = false;
let typed = [];
let onItsWay = 0;

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
  terminal.onData((text) => type(encoder.encode(text)));
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

function say(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function connect() {
  clearTimeout(timer);
  state = "connecting";
  const last = socket;
  socket = undefined;
  last?.close();
  typed = [];
  onItsWay = 0;
  drawn = 0;
  let word = false;
  const mine = new WebSocket(`${location.origin.replace(/^http/, "ws")}${path}/open`);
  mine.binaryType = "arraybuffer";
  socket = mine;
  mine.onopen = () => say({ is: "open", columns: terminal.cols, rows: terminal.rows, again: false });
  mine.onmessage = ({ data }) => {
    if (socket !== mine) return;
    if (typeof data === "string") word = heard(JSON.parse(data)) || word;
    else show(new Uint8Array(data));
  };
  mine.onclose = () => {
    if (socket !== mine || word) return;
    broken("The connection to Berth is lost, trying again…");
    stillAllowed();
  };
}

/** Acts on what the server says. True for the last word. */
function heard(message) {
  switch (message.is) {
    case "watching":
      watched = message;
      terminal.options.disableStdin = !message.typing;
      if (state !== "open") tell("You see it when the VM is awake…");
      fit();
      follow(message.watchers);
      return false;
    case "open":
      state = "open";
      openedAt = Date.now();
      fresh = true;
      tell("");
      return false;
    case "away":
      state = "connecting";
      tell(`${message.by} is not there. You see the terminal again when ${message.by} is back.`);
      return false;
    case "taken":
      onItsWay -= message.bytes;
      send();
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
    case "logged_out":
      location.reload();
      return true;
    default:
      return false;
  }
}

function over(words, button) {
  state = "over";
  terminal.options.disableStdin = true;
  audience.hidden = true;
  watched = undefined;
  tell(words, button);
  if (place.contains(document.activeElement)) (button ? againButton : document.getElementById("leave")).focus();
}

function broken(words) {
  state = "broken";
  if (openedAt && Date.now() - openedAt > GOOD) tries = 0;
  openedAt = 0;
  const pause = PAUSES[Math.min(tries, PAUSES.length - 1)];
  tries += 1;
  tell(words);
  timer = setTimeout(connect, pause * (0.75 + Math.random() / 2));
}

/** A refused WebSocket says nothing of why; the page itself does. */
async function stillAllowed() {
  try {
    const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" });
    if (answer.type === "opaqueredirect" || answer.status === 404) location.reload();
  } catch {
    // The network is gone: trying again is all that there is to do.
  }
}

function show(data) {
  // What comes first after a connection is all that is on the screen.
  if (fresh) terminal.reset();
  fresh = false;
  const mine = socket;
  terminal.write(data, () => {
    if (socket !== mine) return;
    drawn += data.length;
    if (drawn >= SAY_DRAWN) sayDrawn();
    else drawnTimer ??= setTimeout(sayDrawn, SAY_DRAWN_AFTER);
  });
}

function sayDrawn() {
  clearTimeout(drawnTimer);
  drawnTimer = undefined;
  if (drawn) say({ is: "drawn", bytes: drawn });
  drawn = 0;
}

function type(bytes) {
  if (state !== "open" || !watched?.typing) return;
  for (let at = 0; at < bytes.length; at += MESSAGE) typed.push(bytes.subarray(at, at + MESSAGE));
  send();
}

function send() {
  while (state === "open" && typed.length && onItsWay + typed[0].length <= WINDOW && socket?.readyState === WebSocket.OPEN) {
    const message = typed.shift();
    onItsWay += message.length;
    socket.send(message);
  }
}

function begin() {
  before.hidden = true;
  document.getElementById("foot").hidden = false;
  place.hidden = false;
  if (!terminal) make();
  tell("Connecting…");
  connect();
  terminal.focus();
}

document.getElementById("watch").addEventListener("click", begin);
againButton.addEventListener("click", begin);
addEventListener("online", () => { if (state === "broken") connect(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden && state === "broken") connect(); });
})();
