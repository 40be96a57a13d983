"""A server that runs: in a network, cgroups and a session of its own, ended with its whole tree."""

import ctypes
import os
import socket
import subprocess
import time

from usage import Usage

CLONE_NEWNET = 0x40000000


def new_network():
    """Puts this process, and what it starts from now on, into an empty network: no socket in TIME_WAIT is left of an
    earlier server. The old one goes with the last process and socket in it. False where that is not allowed."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return False
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return True


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Running:
    def __init__(self, peer, env, stage):
        self.own_network = new_network()
        self.name, self.port = peer.name, free_port()
        self.usage = Usage(peer.name)
        self.process = None
        command, extra = peer.start(env, self.port, stage)
        self.log = open(f"{env.work}/{peer.name}.log", "wb")

        def prepare():
            self.usage.enter()
            if stage.pinned:
                os.sched_setaffinity(0, {env.cores[0]})

        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                start_new_session=True,
                preexec_fn=prepare,
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
        raise RuntimeError(f"does not greet: {tail}")

    def end(self):
        if self.process:
            self.usage.kill()
            self.process.wait()
            self.process = None
        self.log.close()
        self.usage.remove()
