"""A client that uploads one file, and takes the end of the server for an answer."""

import socket
import threading

from server import PATIENCE, Killed


class Upload:
    """Logged in, with an open data connection: only STOR is to come."""

    def __init__(self, port):
        self.control = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.replies = self.control.makefile("rb")
        self.expect(None, "220 ")
        for command, code in (("USER bob", "331 "), ("PASS secret", "230 "), ("TYPE I", "200 ")):
            self.expect(command, code)
        passive = self.expect("EPSV", "229 ")
        self.data = socket.create_connection(("127.0.0.1", int(passive.split("|")[3])), PATIENCE)

    def expect(self, command, code):
        if command:
            self.control.sendall(command.encode() + b"\r\n")
        reply = self.reply()
        if not (reply or "").startswith(code):
            raise Killed(f"{command}: {reply}")
        return reply

    def reply(self):
        """The next reply, of one line; `None` where the server is gone."""
        try:
            line = self.replies.readline()
        except (ConnectionError, TimeoutError):
            return None
        return line.decode().rstrip("\r\n") if line.endswith(b"\r\n") else None

    def run(self, content, meanwhile=None):
        """Sends all of it, whatever comes; the replies that did come."""
        killer = meanwhile and threading.Thread(target=meanwhile)
        replies = []
        try:
            self.control.sendall(b"STOR file\r\n")
            if killer:
                killer.start()
            half = len(content) // 2
            for part in (content[:half], content[half:]):
                self.data.sendall(part)
        except OSError:
            pass
        self.data.close()
        while (reply := self.reply()) is not None:
            replies.append(reply)
            if not reply.startswith("1"):
                break
        if killer:
            killer.join()
        self.replies.close()
        self.control.close()
        return replies
