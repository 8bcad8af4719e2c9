// The terminal's page: xterm.js at one end of a WebSocket, a shell in the VM at the other. What the two say to each other
// is told in src/terminal/wire.rs.
"use strict";

(() => {

/** The server sends at most 256 KiB that were not said to be drawn; so often it is told. */
const SAY_DRAWN = 16 * 1024;
const SAY_DRAWN_AFTER = 40;
/** Of what is typed, at most so much is on its way, in messages of this size. */
const WINDOW = 64 * 1024;
const MESSAGE = 8 * 1024;
/** What is typed while the page connects, at most. */
const AHEAD = 4 * 1024;
/** Pauses between tries to connect, in milliseconds. */
const PAUSES = [300, 1000, 2000, 4000, 8000, 15000];
/** A connection that stood for so long was a good one. */
const GOOD = 10000;
/** What scrolls by at once, tmux leaves out; whoever scrolls back gets all of it after so many bytes, unless they are old. */
const WORTH_REFILLING = 1000;
const TOO_OLD_TO_REFILL = 10 * 60 * 1000;
const REFILL_EVERY = 3000;

const place = document.getElementById("terminal");
const { vm, path, number } = place.dataset;
const statusLine = document.getElementById("status");
const againButton = document.getElementById("again");
const encoder = new TextEncoder();

// How it looks

const { copy, darkness, keep, names, settings, theme, typists } = window.terminalLook;
const terminal = new Terminal(settings());
const fit = new FitAddon.FitAddon();
terminal.loadAddon(fit);
terminal.loadAddon(new WebLinksAddon.WebLinksAddon((event, address) => {
  if (/^https?:/i.test(address)) window.open(address, "_blank", "noopener,noreferrer");
}));
terminal.open(place);
fit.fit();
darkness.addEventListener("change", () => { terminal.options.theme = theme(); });
new ResizeObserver(() => requestAnimationFrame(() => fit.fit())).observe(place);

// The connection

/** Where it is: "connecting", "waiting" for a key, "open", "broken" (and comes back), "over" (until a person says so). */
let state;
let socket;
let tries = 0;
let timer;
let openedAt = 0;
let drawn = 0;
let drawnTimer;
let fresh = false;
let typed = [];
let onItsWay = 0;
let unfilled = 0;
let filling = false;
let shownAt = 0;
let filledAt = 0;
/** How many lines above the end the reader was when the lines were asked for. */
let readAt;

function tell(words, button) {
  statusLine.textContent = words;
  againButton.hidden = !button;
  if (button) againButton.textContent = button;
}

function say(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function sizes() {
  return { columns: terminal.cols, rows: terminal.rows };
}

function connect(again) {
  clearTimeout(timer);
  state = "connecting";
  const before = socket;
  socket = undefined;
  before?.close();
  typed = [];
  onItsWay = 0;
  drawn = 0;
  let word = false;
  const mine = new WebSocket(`${location.origin.replace(/^http/, "ws")}${path}/open?n=${number}`);
  mine.binaryType = "arraybuffer";
  socket = mine;
  mine.onopen = () => say({ is: "open", ...sizes(), again });
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
    case "progress":
      tell(message.words);
      return false;
    case "waiting":
      state = "waiting";
      tell(`${message.why} Press a key to go on.`);
      return false;
    case "open":
      state = "open";
      openedAt = Date.now();
      if (shareButton) shareButton.disabled = false;
      fresh = true;
      filling = true;
      filledAt = shownAt = Date.now();
      tell("");
      send();
      return false;
    case "list":
      list(message.open);
      return false;
    case "shared":
      shared(message);
      return false;
    case "unshared":
      unshared(message.why);
      return false;
    case "taken":
      onItsWay -= message.bytes;
      send();
      return false;
    case "exit":
      over(message.status ? `The shell has ended with status ${message.status}.` : "The shell has ended.", "Open it again");
      return true;
    case "lost":
      broken(`The connection to ${vm} has ended, looking for it again…`);
      return true;
    case "restarting":
      broken("Berth is being restarted. Your shell runs on.");
      return true;
    case "failed":
      over(message.why, message.again ? "Try again" : undefined);
      return true;
    case "logged_out":
      location.reload();
      return true;
    default:
      return false;
  }
}

/** The person has to say when it goes on. */
function over(words, button) {
  state = "over";
  unshared();
  if (shareButton) shareButton.disabled = true;
  tell(words, button);
  if (button && place.contains(document.activeElement)) againButton.focus();
}

/** It goes on by itself. */
function broken(words) {
  state = "broken";
  if (openedAt && Date.now() - openedAt > GOOD) tries = 0;
  openedAt = 0;
  const pause = PAUSES[Math.min(tries, PAUSES.length - 1)];
  tries += 1;
  tell(words);
  clearTimeout(timer);
  timer = setTimeout(() => connect(true), pause * (0.75 + Math.random() / 2));
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

addEventListener("online", () => { if (state === "broken") connect(true); });
document.addEventListener("visibilitychange", () => { if (!document.hidden && state === "broken") connect(true); });
againButton.addEventListener("click", () => {
  terminal.reset();
  tell("Connecting…");
  connect(false);
  terminal.focus();
});

// What is shown

function show(data) {
  // What comes first after a connection brings all that was there with it.
  if (fresh) terminal.reset();
  fresh = false;
  shownAt = Date.now();
  if (!filling) unfilled += data.length;
  const mine = socket;
  terminal.write(data, () => {
    if (socket !== mine) return;
    drawn += data.length;
    if (drawn >= SAY_DRAWN) sayDrawn();
    else drawnTimer ??= setTimeout(sayDrawn, SAY_DRAWN_AFTER);
  });
}

/** Gets all that has scrolled by from tmux, which begins with it when a page comes. */
function refill() {
  const now = Date.now();
  const idle = state === "open" && !typed.length && !onItsWay;
  if (!idle || unfilled < WORTH_REFILLING || now - shownAt > TOO_OLD_TO_REFILL || now - filledAt < REFILL_EVERY) return;
  readAt = terminal.buffer.active.baseY - terminal.buffer.active.viewportY + terminal.rows;
  connect(true);
}

/** Back to where the reader was, once what was asked for is there. */
function settle() {
  if (!filling || state !== "open" || Date.now() - shownAt < 300) return;
  filling = false;
  unfilled = 0;
  if (readAt !== undefined) terminal.scrollToLine(Math.max(0, terminal.buffer.active.baseY - readAt));
  readAt = undefined;
}

setInterval(settle, 100);
place.addEventListener("wheel", ({ deltaY }) => { if (deltaY < 0) refill(); }, { capture: true, passive: true });
place.addEventListener("touchmove", refill, { capture: true, passive: true });

function sayDrawn() {
  clearTimeout(drawnTimer);
  drawnTimer = undefined;
  if (drawn) say({ is: "drawn", bytes: drawn });
  drawn = 0;
}

// What is typed

function type(bytes) {
  if (state === "waiting") {
    tell("Connecting…");
    state = "connecting";
    say({ is: "wake" });
  }
  const ahead = typed.reduce((sum, message) => sum + message.length, bytes.length);
  if (state !== "open" && (state !== "connecting" || ahead > AHEAD)) return;
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

terminal.onData((text) => type(encoder.encode(controlled(text))));
terminal.onBinary((text) => type(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
terminal.onResize(() => say({ is: "size", ...sizes() }));

terminal.attachCustomKeyEventHandler((event) => {
  if (event.type === "keydown" && event.shiftKey && event.code === "PageUp") refill();
  if (!event.ctrlKey || !event.shiftKey || event.altKey || event.metaKey) return true;
  if (event.code === "Space") {
    if (event.type === "keydown") document.getElementById("new").focus();
    event.preventDefault();
    return false;
  }
  if (event.code === "KeyC") {
    if (event.type === "keydown") copy(terminal);
    event.preventDefault();
    return false;
  }
  // The browser pastes by itself.
  return event.code !== "KeyV";
});

// Keys that a phone does not have

const KEYS = { Escape: () => "\x1b", Tab: () => "\t", Up: arrow("A"), Down: arrow("B"), Right: arrow("C"), Left: arrow("D") };
const control = document.querySelector("[data-key=Control]");

function controlled(text) {
  if (control.getAttribute("aria-pressed") !== "true" || text.length !== 1) return text;
  control.setAttribute("aria-pressed", "false");
  const code = text.toUpperCase().charCodeAt(0);
  return code >= 64 && code < 96 ? String.fromCharCode(code - 64) : text;
}

document.getElementById("keys").addEventListener("click", ({ target }) => {
  const key = target.dataset.key;
  if (!key) return;
  if (key === "Control") control.setAttribute("aria-pressed", String(control.getAttribute("aria-pressed") !== "true"));
  else type(encoder.encode(KEYS[key]()));
  terminal.focus();
});

function arrow(letter) {
  return () => (terminal.modes.applicationCursorKeysMode ? `\x1bO${letter}` : `\x1b[${letter}`);
}

// The terminals of this VM

function list(open) {
  const numbers = [...new Set([...open, Number(number)])].sort((one, other) => one - other);
  const nav = document.getElementById("terminals");
  nav.replaceChildren(...numbers.map((n) => {
    const link = document.createElement("a");
    link.href = `${path}?n=${n}`;
    const words = document.createElement("span");
    words.className = "hidden-words";
    words.textContent = "Terminal ";
    link.append(words, String(n));
    if (n === Number(number)) link.setAttribute("aria-current", "page");
    return link;
  }));
  let free = 1;
  while (numbers.includes(free)) free += 1;
  document.getElementById("new").href = `${path}?n=${free}`;
}

keep(document.getElementById("reader"), terminal);

// Those who watch

/** Not there for a guest of the VM. */
const shareButton = document.getElementById("share");
const sharing = document.getElementById("sharing");
const audience = document.getElementById("audience");
const right = document.getElementById("right");
let watched;
let typing = [];

const follow = typists((people) => {
  typing = people;
  tellAudience();
});

function openSharing(open) {
  sharing.hidden = !open;
  shareButton.setAttribute("aria-expanded", String(open));
}

/** Says at all times who watches, but only what is new, since a screen reader reads it out. */
function tellAudience() {
  let words = "";
  if (watched) {
    const people = watched.watchers.map(({ name }) => name);
    const may = watched.typing ? "Shared, and those who watch may type." : "Shared, read-only.";
    const who = people.length ? `${names(people)} ${new Set(people).size > 1 ? "watch" : "watches"}.` : "Nobody watches yet.";
    const types = typing.length ? ` ${names(typing)} ${typing.length > 1 ? "type" : "types"}.` : "";
    words = `${may} ${who}${types}`;
  }
  if (audience.textContent !== words) audience.textContent = words;
  audience.hidden = !watched;
}

function shared(message) {
  const first = !watched;
  watched = message;
  document.getElementById("link").textContent = message.link;
  right.value = message.typing ? "type" : "read";
  sharing.classList.toggle("is-shared", true);
  document.getElementById("refused").textContent = "";
  if (shareButton) shareButton.textContent = "Shared";
  follow(message.watchers);
  if (first && document.activeElement === document.getElementById("begin")) {
    document.querySelector("#sharing [data-copy]").focus();
  }
}

function unshared(why) {
  watched = undefined;
  typing = [];
  sharing.classList.toggle("is-shared", false);
  document.getElementById("refused").textContent = why ?? "";
  if (shareButton) shareButton.textContent = "Share";
  tellAudience();
}

shareButton?.addEventListener("click", () => {
  openSharing(sharing.hidden);
  if (!sharing.hidden) right.focus();
});
sharing.addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  openSharing(false);
  shareButton.focus();
});
document.getElementById("begin").addEventListener("click", () => say({ is: "share", typing: right.value === "type" }));
document.getElementById("end").addEventListener("click", () => {
  say({ is: "unshare" });
  openSharing(false);
  terminal.focus();
});
right.addEventListener("change", () => { if (watched) say({ is: "share", typing: right.value === "type" }); });

connect(false);
terminal.focus();
})();
