// The connection of a page with a terminal: a WebSocket that comes back by itself. What the two sides say to each other is
// told in src/terminal/wire.rs; here is what holds for every such page, the pages have the rest.
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
/** A connection that stood for so long was a good one. */
const GOOD = 10000;

/** A refused WebSocket says nothing of why; the page itself does. */
async function stillAllowed() {
  try {
    const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" });
    if (answer.type === "opaqueredirect" || answer.status === 404) location.reload();
  } catch {
    // The network is gone: trying again is all that there is to do.
  }
}

/**
 * A line to `address`, which is not connected yet. `terminal()` is the xterm.js that shows what comes, `tell(words)` says how
 * it is, `heard(message)` acts on what the server says and is true for its last word, `shown(bytes)` is told what comes.
 * So many bytes may be typed `ahead`, while it connects.
 */
window.terminalLine = ({ address, terminal, tell, heard, shown = () => {}, ahead = 0 }) => {
  /** "before", "connecting", "waiting" for a key, "open", "broken" (and comes back), "over" (until a person says so). */
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

  function say(message) {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  }

  /** `again`: by itself, and nobody may be there. */
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
    const mine = new WebSocket(`${location.origin.replace(/^http/, "ws")}${address}`);
    mine.binaryType = "arraybuffer";
    socket = mine;
    mine.onopen = () => say({ is: "open", columns: terminal().cols, rows: terminal().rows, again });
    mine.onmessage = ({ data }) => {
      if (socket !== mine) return;
      if (typeof data === "string") word = hear(JSON.parse(data)) || word;
      else show(new Uint8Array(data));
    };
    mine.onclose = () => {
      if (socket !== mine || word) return;
      broken("The connection to Berth is lost, trying again…");
      stillAllowed();
    };
  }

  function hear(message) {
    switch (message.is) {
      case "open":
        state = "open";
        openedAt = Date.now();
        fresh = true;
        tell("");
        send();
        break;
      case "taken":
        onItsWay -= message.bytes;
        send();
        return false;
      case "logged_out":
        location.reload();
        return true;
    }
    return heard(message);
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

  function show(data) {
    // What comes first after a connection brings all that was there with it.
    if (fresh) terminal().reset();
    fresh = false;
    shown(data.length);
    const mine = socket;
    terminal().write(data, () => {
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
    const waiting = typed.reduce((sum, message) => sum + message.length, bytes.length);
    if (state !== "open" && (state !== "connecting" || waiting > ahead)) return;
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

  const comeBack = () => { if (state === "broken") connect(true); };
  addEventListener("online", comeBack);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) comeBack(); });

  return {
    broken,
    connect,
    say,
    type,
    is: (other) => state === other,
    turn: (other) => { state = other; },
    /** Nothing that was typed is on its way. */
    isIdle: () => state === "open" && !typed.length && !onItsWay,
  };
};
})();
