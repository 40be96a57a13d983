"""The server that is killed, and strace(1), which kills it."""

import os
import signal
import subprocess
import time

# Longest wait for anything that has to happen, in seconds.
PATIENCE = 20

# The user that uploads; `openssl passwd -5 -salt saltsalt secret`.
ACCOUNT = "bob:$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA:write=all\n"

# A server that can't reach its own descriptors by name gives hidden names to what it writes.
WITHOUT_PROC = ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'umount -l /proc && exec "$@"', "sh"]


class Killed(Exception):
    """What must not be."""


def can_hide_proc():
    """Whether a server can be started where there is no /proc."""
    try:
        return subprocess.run(WITHOUT_PROC + ["true"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    except FileNotFoundError:
        return False


class Server:
    """A server of `root` with one worker, which is ready."""

    def __init__(self, binary, root, scratch, durable, hidden):
        accounts = os.path.join(scratch, "accounts")
        if not os.path.exists(accounts):
            with open(os.open(accounts, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
                file.write(ACCOUNT)
        command = WITHOUT_PROC if hidden else []
        command = command + [binary, "serve", root, "--listen", "127.0.0.1:0", "--workers", "1", "--log", "warn"]
        command += ["--accounts", accounts, "--durable", "on" if durable else "off"]
        self.log = open(os.path.join(scratch, "log"), "w+b")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        ready = self.process.stdout.readline().decode()
        if not ready:
            self.log.seek(0)
            raise Killed(f"the server does not start: {self.log.read().decode()}")
        self.port = int(ready.rsplit(":", 1)[1])

    def worker(self):
        """The thread of its one worker."""
        tasks = f"/proc/{self.process.pid}/task"
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/comm", encoding="ascii") as file:
                if file.read().startswith("worker"):
                    return task
        raise Killed("the server has no worker")

    def strike(self):
        """Ends it as the kernel ends what has no more memory."""
        self.process.send_signal(signal.SIGKILL)

    def kill(self):
        """The same, and sees to it that it is gone, and had no complaints."""
        self.strike()
        self.process.wait()
        self.process.stdout.close()
        self.log.seek(0)
        log = self.log.read().decode(errors="replace")
        self.log.close()
        if "defect" in log:
            raise Killed(log)


class Strace:
    """Attached to a thread, which it kills before its nth call of one name; or only writes down its calls."""

    def __init__(self, thread, notes, call=None):
        command = ["strace", "-qq", "-o", notes, "-p", thread]
        if call is not None:
            command += ["-e", "inject={}:signal=KILL:when={}".format(*call)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while not self.attached(thread):
            if time.monotonic() > until or self.process.poll() is not None:
                raise Killed("strace(1) does not attach")
            time.sleep(0.002)

    def attached(self, thread):
        try:
            with open(f"/proc/{thread}/status", encoding="ascii", errors="replace") as file:
                return f"TracerPid:\t{self.process.pid}\n" in file.read()
        except OSError:
            # It is dead already.
            return True

    def end(self):
        """Lets go of the thread in order, if it is still there."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
