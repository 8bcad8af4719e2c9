// The terminal's page: xterm.js at one end of a WebSocket, a shell in the VM at the other. What the two say to each other
// is told in src/terminal/wire.rs.
"use strict";

(() => {

/** What is typed while the page connects, at most. */
const AHEAD = 4 * 1024;
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

const line = window.terminalLine({
  address: `${path}/open?n=${number}`, terminal: () => terminal, tell, heard, shown, ahead: AHEAD,
});

/** Acts on what the server says. True for the last word. */
function heard(message) {
  switch (message.is) {
    case "progress":
      tell(message.words);
      return false;
    case "waiting":
      line.turn("waiting");
      tell(`${message.why} Press a key to go on.`);
      return false;
    case "open":
      if (shareButton) shareButton.disabled = false;
      filling = true;
      filledAt = shownAt = Date.now();
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
    case "exit":
      over(message.status ? `The shell has ended with status ${message.status}.` : "The shell has ended.", "Open it again");
      return true;
    case "lost":
      line.broken(`The connection to ${vm} has ended, looking for it again…`);
      return true;
    case "restarting":
      line.broken("Berth is being restarted. Your shell runs on.");
      return true;
    case "failed":
      over(message.why, message.again ? "Try again" : undefined);
      return true;
    default:
      return false;
  }
}

/** The person has to say when it goes on. */
function over(words, button) {
  line.turn("over");
  unshared();
  if (shareButton) shareButton.disabled = true;
  tell(words, button);
  if (button && place.contains(document.activeElement)) againButton.focus();
}

againButton.addEventListener("click", () => {
  terminal.reset();
  tell("Connecting…");
  line.connect(false);
  terminal.focus();
});

// What is shown

function shown(bytes) {
  shownAt = Date.now();
  if (!filling) unfilled += bytes;
}

/** Gets all that has scrolled by from tmux, which begins with it when a page comes. */
function refill() {
  const now = Date.now();
  if (!line.isIdle() || unfilled < WORTH_REFILLING || now - shownAt > TOO_OLD_TO_REFILL || now - filledAt < REFILL_EVERY) return;
  readAt = terminal.buffer.active.baseY - terminal.buffer.active.viewportY + terminal.rows;
  line.connect(true);
}

/** Back to where the reader was, once what was asked for is there. */
function settle() {
  if (!filling || !line.is("open") || Date.now() - shownAt < 300) return;
  filling = false;
  unfilled = 0;
  if (readAt !== undefined) terminal.scrollToLine(Math.max(0, terminal.buffer.active.baseY - readAt));
  readAt = undefined;
}

setInterval(settle, 100);
place.addEventListener("wheel", ({ deltaY }) => { if (deltaY < 0) refill(); }, { capture: true, passive: true });
place.addEventListener("touchmove", refill, { capture: true, passive: true });

// What is typed

function type(bytes) {
  if (line.is("waiting")) {
    tell("Connecting…");
    line.turn("connecting");
    line.say({ is: "wake" });
  }
  line.type(bytes);
}

terminal.onData((text) => type(encoder.encode(controlled(text))));
terminal.onBinary((text) => type(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
terminal.onResize(({ cols, rows }) => line.say({ is: "size", columns: cols, rows }));

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
document.getElementById("begin").addEventListener("click", () => line.say({ is: "share", typing: right.value === "type" }));
document.getElementById("end").addEventListener("click", () => {
  line.say({ is: "unshare" });
  openSharing(false);
  terminal.focus();
});
right.addEventListener("change", () => { if (watched) line.say({ is: "share", typing: right.value === "type" }); });

line.connect(false);
terminal.focus();
})();
