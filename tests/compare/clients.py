"""What is put on a server: sessions that are open and idle, sockets in TIME_WAIT, and runs of the load generator."""

import json
import os
import resource
import socket
import subprocess
import time

# Clients that log in at once, so that a server that is slow to greet does not greet one after the other.
AT_ONCE = 30
# Seconds in which all idle sessions must be open.
OPEN_WITHIN = 90
# Seconds that a run of the generator may take beyond its time: the sessions that have begun are finished.
OVERTIME = 60


class Crowd:
    """Sessions that have logged in and say nothing."""

    def __init__(self, server):
        self.server, self.clients = server, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s, lines in self.clients:
            lines.close()
            s.close()

    def grow(self, count):
        limit = time.monotonic() + OPEN_WITHIN
        while len(self.clients) < count:
            if time.monotonic() > limit:
                raise RuntimeError(f"only {len(self.clients)} sessions were open after {OPEN_WITHIN} s")
            self.log_in(min(AT_ONCE, count - len(self.clients)))

    def shrink(self, count):
        while len(self.clients) > count:
            s, lines = self.clients.pop()
            lines.close()
            s.close()

    def log_in(self, count):
        more = []
        for _ in range(count):
            s = socket.socket()
            s.settimeout(30)
            self.clients.append((s, s.makefile("rb")))
            more.append(self.clients[-1])
            # Many addresses: caps for an address are not what is measured.
            s.bind((f"127.2.0.{len(self.clients) % 200 + 1}", 0))
            s.connect(("127.0.0.1", self.server.port))
        for command in (None, b"USER anonymous\r\n", b"PASS compare@\r\n"):
            for s, _ in more:
                if command:
                    s.sendall(command)
            for _, lines in more:
                line = lines.readline()
                while line and not (line[:3].isdigit() and line[3:4] == b" "):
                    line = lines.readline()
                if line[:1] not in (b"2", b"3"):
                    raise RuntimeError(f"idle client {len(self.clients)} got {line!r}")


def waiting():
    """Sockets in TIME_WAIT."""
    with open("/proc/net/sockstat") as f:
        words = next(line for line in f if line.startswith("TCP:")).split()
    return int(words[words.index("tw") + 1])


def leave_waiting(ports, towards):
    """Leaves a socket in TIME_WAIT on each of the ports, as a passive port that sets SO_REUSEADDR does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", towards))
        listener.listen(16)
        for port in ports:
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    s.bind(("127.0.0.1", port))
                except OSError:
                    continue  # the server's own
                s.connect(listener.getsockname())
                other, _ = listener.accept()
            other.close()


def generator_cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def softirq_cpu():
    """Seconds of the kernel's threads for packets."""
    spent = 0
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/comm") as f:
                if not f.read().startswith("ksoftirqd/"):
                    continue
            with open(f"/proc/{entry}/schedstat") as f:
                spent += int(f.read().split()[0])
        except (OSError, ValueError):
            continue
    return spent / 1e9


def load(env, server, path, clients, mix, seconds, pinned=False, sessions=None):
    """One run of the load generator, the CPU time that the server spent on it, and all that was spent on it."""
    file = f"{env.work}/load.json"
    if os.path.exists(file):
        os.unlink(file)
    command = ["taskset", "-c", str(env.cores[1])] if pinned else []
    command += [env.plimsoll, "load", f"ftp://127.0.0.1:{server.port}/{path}", "--clients", str(clients)]
    command += ["--mix", mix, "--duration", f"{round(seconds * 1000)}ms", "--timeout", "20s", "--json", file]
    if sessions:
        command += ["--sessions", str(sessions)]
    before, others = server.usage.cpu(), generator_cpu() + softirq_cpu()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds + OVERTIME)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not finished in {seconds + OVERTIME:g} s") from None
    # The last sessions are still being closed when the generator leaves.
    time.sleep(0.15)
    spent = server.usage.cpu() - before
    if not os.path.exists(file):
        raise RuntimeError(f"load: {done.stderr.decode(errors='replace').strip()[-300:]}")
    with open(file) as f:
        figures = json.load(f)
    figures["cpu_s"] = spent
    figures["all_cpu_s"] = spent + generator_cpu() + softirq_cpu() - others
    if figures["succeeded"] == 0:
        raise RuntimeError(f"no session succeeded: {figures['refusals']} {figures['failures']}")
    return figures
