"""How each server is started: anonymous users, logging off, no limit that the work would meet."""

import os


class Peer:
    def __init__(self, name, title, start, lists=True, one_file=False):
        self.name, self.title, self.start = name, title, start
        self.lists, self.one_file = lists, one_file

    def command(self, env, port, file):
        return self.start(env, port, file)


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


def threads(args):
    """The default of plimsoll, which all the idle sessions and a few more must fit."""
    return max(256, args.idle + 16)


def plimsoll(env, port, _file):
    command = [env.plimsoll, "serve", env.root, "--listen", f"127.0.0.1:{port}", "--workers", str(threads(env))]
    return [*command, "--log", "off"], {}


def floor(env, port, file):
    return [f"{env.cache}/floor", f"127.0.0.1:{port}", str(threads(env)), f"{env.root}/{file}"], {}


def vsftpd(env, port, _file):
    os.makedirs(f"{env.work}/empty", exist_ok=True)
    text = f"""listen=YES
listen_port={port}
listen_address=127.0.0.1
background=NO
anonymous_enable=YES
local_enable=NO
anon_root={env.root}
secure_chroot_dir={env.work}/empty
max_clients=1000
xferlog_enable=NO
seccomp_sandbox=NO
ftp_username=ftp
"""
    return with_user(env, [f"{env.cache}/vsftpd/usr/sbin/vsftpd", config(env, "vsftpd.conf", text)])


def pure(env, port, _file):
    command = [f"{env.cache}/pure-ftpd/usr/sbin/pure-ftpd", "-e", "-S", f"127.0.0.1,{port}", "-c", "1000", "-C", "1000"]
    return with_user(env, [*command, "-L", "1000000:9", "-H", "-g", f"{env.work}/pure.pid"])


def proftpd(env, port, _file):
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
MaxInstances 1000
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
 MaxClients 1000
 RequireValidShell off
</Anonymous>
"""
    path = config(env, "proftpd.conf", text)
    return with_user(env, [f"{env.cache}/proftpd-core/usr/sbin/proftpd", "-n", "-c", path])


def pyftpdlib(env, port, _file):
    text = f"""import logging
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
a = DummyAuthorizer()
a.add_anonymous({env.root!r}, perm="elr")
FTPHandler.authorizer = a
logging.basicConfig(level=logging.ERROR)
s = FTPServer(("127.0.0.1", {port}), FTPHandler)
s.max_cons = 1000
s.max_cons_per_ip = 0
s.backlog = 4096
s.serve_forever()
"""
    return ["python3", config(env, "pyftpd.py", text)], {"PYTHONPATH": f"{env.cache}/pyftpdlib"}


def unftp(env, port, _file):
    command = [env.unftp or "unftp", "--bind-address", f"127.0.0.1:{port}", "--bind-address-http", "127.0.0.1:0"]
    return [*command, "--root-dir", env.root], {}


PEERS = [
    Peer("plimsoll", "plimsoll", plimsoll),
    Peer("floor", "the floor", floor, lists=False, one_file=True),
    Peer("vsftpd", "vsftpd", vsftpd),
    Peer("pure-ftpd", "Pure-FTPd", pure),
    Peer("proftpd", "ProFTPD", proftpd),
    Peer("pyftpdlib", "pyftpdlib", pyftpdlib),
    Peer("unftp", "unFTP", unftp),
]
