# A browser that is nothing but a terminal: logs in by a link and carries the terminal of vm-0 between its own one and the
# website, as the page does. What the website says is printed in brackets. What is typed after a Ctrl-] up to the end of
# the line is what the page says itself.
# Arguments: the link, and the number of the terminal, or the path of a link to watch one.
import base64, http.client, json, os, re, select, socket, struct, sys, termios, tty, urllib.parse

link, which = sys.argv[1], sys.argv[2]
opened = which + "/open" if which.startswith("/") else f"/vms/vm-0/terminal/open?n={which}"
site = urllib.parse.urlsplit(link)
host = site.netloc
cookies = {}


def ask(method, path, body=None):
    connection = http.client.HTTPConnection(host)
    headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items()), "Origin": f"http://{host}"}
    if body is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    for name, value in answer.getheaders():
        if name.lower() == "set-cookie":
            key, rest = value.split("=", 1)
            cookies[key] = rest.split(";", 1)[0]
    return answer.status, answer.read().decode()


_, page = ask("GET", site.path)
token = re.search('name="csrf" value="([^"]*)"', page).group(1)
status, page = ask("POST", site.path, urllib.parse.urlencode({"csrf": token}))
assert status == 303, (status, page)

stream = socket.create_connection((site.hostname, site.port or 80))
key = base64.b64encode(os.urandom(16)).decode()
cookie = "; ".join(f"{k}={v}" for k, v in cookies.items())
stream.sendall(
    (
        f"GET {opened} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nCookie: {cookie}\r\n"
        f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()
)
got = b""
while b"\r\n\r\n" not in got:
    got += stream.recv(4096)
head, got = got.split(b"\r\n\r\n", 1)
assert head.startswith(b"HTTP/1.1 101"), head


def send(kind, data):
    mask = os.urandom(4)
    size = struct.pack("!B", 0x80 | len(data)) if len(data) < 126 else struct.pack("!BH", 0x80 | 126, len(data))
    stream.sendall(bytes([0x80 | kind]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))


def say(word):
    send(1, json.dumps(word).encode())


def frames():
    global got
    while len(got) >= 2:
        size, at = got[1] & 0x7F, 2
        if size == 126:
            if len(got) < 4:
                return
            size, at = struct.unpack("!H", got[2:4])[0], 4
        elif size == 127:
            if len(got) < 10:
                return
            size, at = struct.unpack("!Q", got[2:10])[0], 10
        if len(got) < at + size:
            return
        frame, got = (got[0] & 0x0F, got[at : at + size]), got[at + size :]
        yield frame


saved = termios.tcgetattr(0)
tty.setraw(0)
try:
    say({"is": "open", "columns": 80, "rows": 24, "again": False})
    over = False
    while not over:
        ready, _, _ = select.select([0, stream], [], [])
        if 0 in ready:
            typed = os.read(0, 4096)
            if not typed:
                break
            if typed[0] == 0x1D:
                while not typed.endswith(b"\r"):
                    typed += os.read(0, 4096)
                say(json.loads(typed[1:]))
            else:
                send(2, typed)
        if stream in ready:
            came = stream.recv(65536)
            if not came:
                break
            got += came
        for kind, data in frames():
            if kind == 2:
                os.write(1, data)
                say({"is": "drawn", "bytes": len(data)})
            elif kind == 1:
                word = json.loads(data)
                if word["is"] in ("shared", "watching"):
                    names = ",".join(watcher["name"] for watcher in word["watchers"])
                    may = "typing" if word["typing"] else "read-only"
                    os.write(1, f"[{word['is']} {word.get('link', word.get('by'))} {may} {names}]".encode())
                elif word["is"] not in ("taken", "list", "progress"):
                    os.write(1, f"[{word['is']}]".encode())
                over = word["is"] in ("exit", "lost", "failed", "logged_out", "restarting", "over")
            elif kind == 9:
                send(10, data)
            elif kind == 8:
                over = True
finally:
    termios.tcsetattr(0, termios.TCSANOW, saved)
