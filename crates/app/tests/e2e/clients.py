"""Direct mode by paramiko and by asyncssh: commands, a terminal, files, forwards, and many channels of a connection."""

import asyncio
import os

import asyncssh
import paramiko

GATEWAY, USER, KEY = "ssh.koding.com", "vm-0", os.path.expanduser("~/.ssh/id_ed25519")
# Neither of them knows a certificate of a host in known_hosts: the key itself.
HOSTS = "hosts"
DATA = os.urandom(300_000)


def by_paramiko():
    client = paramiko.SSHClient()
    client.load_host_keys(HOSTS)
    client.connect(GATEWAY, username=USER, key_filename=KEY, allow_agent=False, look_for_keys=False)
    stdin, stdout, stderr = client.exec_command("cat; echo err >&2; exit 5")
    stdin.write("in")
    stdin.channel.shutdown_write()
    assert (stdout.read(), stderr.read(), stdout.channel.recv_exit_status()) == (b"in", b"err\n", 5)
    _, stdout, _ = client.exec_command("stty size", get_pty=True)
    assert stdout.read() == b"24 80\r\n"
    with client.open_sftp() as sftp:
        with sftp.open("by-paramiko", "w") as file:
            file.write(DATA)
        with sftp.open("by-paramiko") as file:
            assert file.read() == DATA
        sftp.remove("by-paramiko")
    channel = client.get_transport().open_session()
    channel.exec_command("cat >closed-at-once")
    channel.sendall(DATA)
    channel.close()
    _, stdout, _ = client.exec_command(
        f"for _ in $(seq 100); do test $(wc -c <closed-at-once) = {len(DATA)} && break; sleep 0.1; done; cat closed-at-once; rm closed-at-once"
    )
    assert stdout.read() == DATA
    transport = client.get_transport()
    web = transport.open_channel("direct-tcpip", ("127.0.0.1", 80), ("127.0.0.1", 1))
    web.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert web.makefile("rb").read().startswith(b"HTTP/1.1 200")
    try:
        transport.open_channel("direct-tcpip", ("127.0.0.1", 2), ("127.0.0.1", 1))
        raise AssertionError("nothing listens there")
    except paramiko.ChannelException as refused:
        assert refused.code == 2, refused.code
    port = transport.request_port_forward("127.0.0.1", 0)
    client.exec_command(f"echo back >/dev/tcp/127.0.0.1/{port}")
    assert transport.accept(20).makefile("rb").read() == b"back\n"
    transport.cancel_port_forward("127.0.0.1", port)
    client.close()
    print("paramiko")


async def by_asyncssh():
    options = dict(username=USER, client_keys=[KEY], known_hosts=HOSTS, config=None, agent_path=None)
    async with asyncssh.connect(GATEWAY, **options) as client:
        done = await client.run("cat; exit 6", input="in")
        assert (done.stdout, done.exit_status) == ("in", 6)
        done = await client.run("kill -TERM $$")
        assert done.exit_signal[0] == "TERM", done
        many = await asyncio.gather(*(client.run(f"echo {n}") for n in range(12)))
        assert [int(done.stdout) for done in many] == list(range(12))
        sleeping = await client.create_process("trap 'echo caught; exit 8' INT; echo ready; while :; do sleep 0.1; done")
        assert await sleeping.stdout.readline() == "ready\n"
        sleeping.send_signal("INT")
        assert (await sleeping.wait()).stdout == "caught\n"
        async with client.start_sftp_client() as sftp:
            async with sftp.open("by-asyncssh", "wb") as file:
                await file.write(DATA)
            assert await sftp.getsize("by-asyncssh") == len(DATA)
            await sftp.remove("by-asyncssh")
        path = "/tmp/by-asyncssh.sock"
        answering = await asyncio.start_unix_server(answer, "here.sock")
        listener = await client.forward_remote_path(path, "here.sock")
        fetch = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{path}'); print(s.recv(9).decode())"
        done = await client.run(f'python3 -c "{fetch}"; rm -f {path}')
        assert done.stdout == "back\n", done
        listener.close()
        answering.close()
    print("asyncssh")


async def answer(_, writer):
    writer.write(b"back")
    writer.close()


by_paramiko()
asyncio.run(by_asyncssh())
