#!/usr/bin/env python3
"""Measures plimsoll, the floor and other FTP servers one at a time on loopback; started by scripts/compare."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time

import report
from peers import PEERS
from usage import Usage

MANY = 20_000
BIG = 256 << 20


def say(text):
    print(f"compare: {text}", file=sys.stderr, flush=True)


def make_site(root):
    """A small file, a big one whose pages are no holes, and a folder of many."""
    os.makedirs(f"{root}/many", exist_ok=True)
    with open(f"{root}/small", "wb") as f:
        f.write(b"s" * 1024)
    block = os.urandom(1 << 20)
    with open(f"{root}/big", "wb") as f:
        for _ in range(BIG >> 20):
            f.write(block)
    for i in range(MANY):
        with open(f"{root}/many/package-{i:06}_1.0-{i % 9}_all.deb", "wb") as f:
            f.write(b"x" * (i % 7))
    for folder, _, files in os.walk(root):
        os.chmod(folder, 0o755)
        for name in files:
            os.chmod(os.path.join(folder, name), 0o644)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Running:
    """A server in cgroups and in a session of its own, ended with its whole tree."""

    def __init__(self, peer, env, file):
        self.name, self.port = peer.name, free_port()
        self.usage = Usage(peer.name)
        self.process = None
        command, extra = peer.command(env, self.port, file)
        self.log = open(f"{env.work}/{peer.name}.log", "wb")
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                start_new_session=True,
                preexec_fn=self.usage.enter,
                env={**os.environ, **extra},
                cwd=env.work,
            )
            self.usage.pid = self.process.pid
            self.wait_until_it_greets(env)
        except BaseException:
            self.end()
            raise

    def wait_until_it_greets(self, env):
        limit = time.monotonic() + 15
        while time.monotonic() < limit and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as s:
                    if s.recv(3) == b"220":
                        return
            except OSError:
                pass
            time.sleep(0.05)
        with open(f"{env.work}/{self.name}.log", "rb") as f:
            tail = f.read()[-400:].decode(errors="replace")
        raise RuntimeError(f"{self.name} does not greet: {tail}")

    def end(self):
        if self.process:
            self.usage.kill()
            self.process.wait()
            self.process = None
        self.log.close()
        self.usage.remove()


def log_in(server, clients, count):
    """So many more clients at once, so that a server that is slow to greet does not greet one after the other."""
    more = []
    for _ in range(count):
        s = socket.socket()
        s.settimeout(30)
        clients.append((s, s.makefile("rb")))
        more.append(clients[-1])
        # A few addresses: caps for an address are not what is measured.
        s.bind((f"127.2.0.{len(clients) % 200 + 1}", 0))
        s.connect(("127.0.0.1", server.port))
    for command in (None, b"USER anonymous\r\n", b"PASS compare@\r\n"):
        for s, _ in more:
            if command:
                s.sendall(command)
        for _, lines in more:
            line = lines.readline()
            while line and not (line[:3].isdigit() and line[3:4] == b" "):
                line = lines.readline()
            if line[:1] not in (b"2", b"3"):
                raise RuntimeError(f"an idle client got {line!r}")


def idle(server, count):
    """Memory at rest, then with so many clients that have logged in and say nothing."""
    time.sleep(0.3)
    rest = server.usage.memory()
    clients = []
    try:
        while len(clients) < count:
            log_in(server, clients, min(20, count - len(clients)))
        time.sleep(0.3)
        held = server.usage.memory()
    finally:
        for s, lines in clients:
            lines.close()
            s.close()
    out = {}
    for kind in ("user", "kernel"):
        if rest[kind] is None or held[kind] is None:
            continue
        out[f"rest_{kind}"] = rest[kind] / 1024
        out[f"idle_{kind}"] = (held[kind] - rest[kind]) / 1024 / count
        out[f"held_{kind}"] = held[kind] / 1024
    return out


def load(env, server, path, clients, mix, seconds):
    """One run of the load generator, and the CPU time that the server spent on it."""
    file = f"{env.work}/load.json"
    if os.path.exists(file):
        os.unlink(file)
    before = server.usage.cpu()
    command = [env.plimsoll, "load", f"ftp://127.0.0.1:{server.port}/{path}", "--clients", str(clients)]
    command += ["--mix", mix, "--duration", f"{round(seconds * 1000)}ms", "--timeout", "20s", "--json", file]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds + 120)
    # The last sessions are still being closed when the generator leaves.
    time.sleep(0.15)
    spent = server.usage.cpu() - before
    if not os.path.exists(file):
        raise RuntimeError(f"load: {done.stderr.decode(errors='replace').strip()[-300:]}")
    with open(file) as f:
        figures = json.load(f)
    figures["cpu_s"] = spent
    if figures["succeeded"] == 0:
        raise RuntimeError(f"no session succeeded: {figures['refusals']} {figures['failures']}")
    return figures


def work(name, figures):
    """The figures of one kind of work that are shown."""
    sessions, cpu = figures["succeeded"], figures["cpu_s"]
    times = figures["latency_ms"]["logon" if name.startswith("logon") else "session"]
    out = {"p50": times["p50"], "p99": times["p99"], "bad": figures["refused"] + figures["failed"]}
    if name.startswith("big"):
        out["rate"] = figures["mib_per_s"]
        out["cpu"] = cpu * 1000 / (figures["received_bytes"] / 2**30)
    else:
        out["rate"] = figures["sessions_per_s"]
        out["cpu"] = cpu * (1000 if name == "list" else 1e6) / sessions
    return out


WORKS = [
    ("logon1", "small", 1, "logon"),
    ("logon16", "small", 16, "logon"),
    ("small8", "small", 8, "fetch"),
    ("list", "many/", 1, "list"),
    ("big1", "big", 1, "fetch"),
    ("big8", "big", 8, "fetch"),
]


def measure(env, peer, results):
    server = Running(peer, env, "small")
    try:
        kept = results.setdefault(peer.name, {})

        def keep(name, figures):
            for key, value in figures.items():
                kept.setdefault(f"{name}.{key}", []).append(value)

        try:
            keep("idle", idle(server, env.idle))
        except (OSError, RuntimeError) as e:
            say(f"{peer.name}: idle: {e}")
        for name, path, clients, mix in WORKS:
            if name == "list" and not peer.lists:
                continue
            if name == "big1" and peer.one_file:
                server.end()
                server = Running(peer, env, "big")
            try:
                figures = load(env, server, path, clients, mix, env.seconds)
                if name == "list" and figures["received_bytes"] < figures["succeeded"] * MANY * 30:
                    raise RuntimeError("the listing is cut short")
                keep(name, work(name, figures))
            except (OSError, RuntimeError, subprocess.TimeoutExpired) as e:
                say(f"{peer.name}: {name}: {e}")
    finally:
        server.end()


def main():
    p = argparse.ArgumentParser(prog="scripts/compare")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=2)
    p.add_argument("--only", default="")
    p.add_argument("--idle", type=int, default=200)
    p.add_argument("--cache", required=True)
    p.add_argument("--plimsoll", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--work", required=True)
    p.add_argument("--docs", default="")
    p.add_argument("--peers", default="")
    p.add_argument("--unftp", default="")
    args = p.parse_args()
    chosen = [n for n in args.only.split(",") if n]
    present = set(args.peers.split(",")) | {"plimsoll", "floor"}
    peers = [q for q in PEERS if q.name in present and (not chosen or q.name in chosen)]

    def stop(number, _frame):
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    os.chmod(args.work, 0o755)
    args.root = f"{args.work}/site"
    say("making the folder that is served")
    make_site(args.root)
    results = {}
    for number in range(args.rounds):
        for at in range(len(peers)):
            # Each round begins with another server, so that none is always the first or the last.
            peer = peers[(at + number) % len(peers)]
            say(f"round {number + 1} of {args.rounds}: {peer.name}")
            try:
                measure(args, peer, results)
            except (OSError, RuntimeError) as e:
                say(f"{peer.name}: {e}")
    text = report.tables(peers, results, args)
    with open(args.out, "w") as f:
        json.dump(results, f, indent=1)
    if args.docs:
        report.write(args.docs, text, peers, results)
    print(text)


if __name__ == "__main__":
    main()
