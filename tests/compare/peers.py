"""How each server is started: anonymous users, logging off, no limit that the work would meet."""

import os


# More than are ever open at once.
SESSIONS = 2000


class Peer:
    def __init__(self, name, title, start, lists=True):
        self.name, self.title, self.start, self.lists = name, title, start, lists


def config(env, name, text):
    path = f"{env.work}/{name}"
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, 0o600)
    return path


def with_user(env, command):
    """The user ftp with the folder as its home, in a mount namespace: the host's own passwd stays as it is."""
    with open("/etc/passwd") as f:
        lines = [line for line in f if not line.startswith("ftp:")]
    lines.append(f"ftp:x:65533:65534:ftp:{env.root}:/usr/sbin/nologin\n")
    passwd = config(env, "passwd", "".join(lines))
    os.chmod(passwd, 0o644)
    script = 'mount --bind "$0" /etc/passwd && exec "$@"'
    return ["unshare", "-m", "sh", "-c", script, passwd, *command], {"LD_LIBRARY_PATH": libraries(env)}


def libraries(env):
    found = []
    for base in ("usr/lib", "lib"):
        top = f"{env.cache}/lib/{base}"
        if os.path.isdir(top):
            found += [top] + [f"{top}/{d}" for d in os.listdir(top) if d.endswith("-linux-gnu")]
    return ":".join(found)


def plimsoll(env, port, stage):
    command = [env.plimsoll, "serve", env.root, "--listen", f"127.0.0.1:{port}", "--workers", str(stage.workers)]
    return [*command, "--log", "off"], {}


def floor(env, port, stage):
    return [f"{env.cache}/floor", f"127.0.0.1:{port}", str(stage.workers), f"{env.root}/{stage.file}"], {}


def vsftpd(env, port, _stage):
    os.makedirs(f"{env.work}/empty", exist_ok=True)
    text = f"""listen=YES
listen_port={port}
listen_address=127.0.0.1
background=NO
anonymous_enable=YES
local_enable=NO
anon_root={env.root}
secure_chroot_dir={env.work}/empty
max_clients={SESSIONS}
xferlog_enable=NO
seccomp_sandbox=NO
ftp_username=ftp
"""
    return with_user(env, [f"{env.cache}/vsftpd/usr/sbin/vsftpd", config(env, "vsftpd.conf", text)])


def pure(env, port, _stage):
    command = [f"{env.cache}/pure-ftpd/usr/sbin/pure-ftpd", "-e", "-S", f"127.0.0.1,{port}", "-c", f"{SESSIONS}"]
    command += ["-C", f"{SESSIONS}"]
    return with_user(env, [*command, "-L", "1000000:9", "-H", "-g", f"{env.work}/pure.pid"])


def proftpd(env, port, _stage):
    for name in ("users", "groups"):
        config(env, name, "")
    text = f"""ServerName compare
ServerType standalone
DefaultServer on
Port {port}
DefaultAddress 127.0.0.1
SocketBindTight on
UseReverseDNS off
User nobody
Group nogroup
MaxInstances {SESSIONS}
AuthUserFile {env.work}/users
AuthGroupFile {env.work}/groups
AuthOrder mod_auth_file.c mod_auth_unix.c
ScoreboardFile {env.work}/score
PidFile {env.work}/proftpd.pid
WtmpLog off
TransferLog none
SystemLog none
RequireValidShell off
<Anonymous {env.root}>
 User ftp
 Group nogroup
 UserAlias anonymous ftp
 MaxClients {SESSIONS}
 RequireValidShell off
</Anonymous>
"""
    path = config(env, "proftpd.conf", text)
    return with_user(env, [f"{env.cache}/proftpd-core/usr/sbin/proftpd", "-n", "-c", path])


def pyftpdlib(env, port, _stage):
    text = f"""import logging
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
a = DummyAuthorizer()
a.add_anonymous({env.root!r}, perm="elr")
FTPHandler.authorizer = a
logging.basicConfig(level=logging.ERROR)
s = FTPServer(("127.0.0.1", {port}), FTPHandler)
s.max_cons = {SESSIONS}
s.max_cons_per_ip = 0
s.backlog = 4096
s.serve_forever()
"""
    return ["python3", config(env, "pyftpd.py", text)], {"PYTHONPATH": f"{env.cache}/pyftpdlib"}


def unftp(env, port, _stage):
    command = [env.unftp or "unftp", "--bind-address", f"127.0.0.1:{port}", "--bind-address-http", "127.0.0.1:0"]
    return [*command, "--root-dir", env.root], {}


PEERS = [
    Peer("plimsoll", "plimsoll", plimsoll),
    Peer("floor", "the floor", floor, lists=False),
    Peer("vsftpd", "vsftpd", vsftpd),
    Peer("pure-ftpd", "Pure-FTPd", pure),
    Peer("proftpd", "ProFTPD", proftpd),
    Peer("pyftpdlib", "pyftpdlib", pyftpdlib),
    Peer("unftp", "unFTP", unftp),
]
