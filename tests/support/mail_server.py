"""A mail server that keeps what it is given: enough of SMTP (RFC 5321) for the standard library's client."""

import socketserver
import threading
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class MailServer:
    """Listens while it is entered; `refusals` times it answers MAIL with a temporary error first."""

    mails: list[tuple[str, EmailMessage]] = field(default_factory=list)
    """Recipient of the envelope, and the message."""
    refusals: int = 0

    def __enter__(self) -> "MailServer":
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, mail: MailServer) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.mail = mail


class _Session(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        recipient = ""
        self._say("220 ready")
        while line := self.rfile.readline():
            verb = line[:4].upper().decode()
            if verb == "MAIL" and self.server.mail.refusals:
                self.server.mail.refusals -= 1
                self._say("451 try again later")
            elif verb == "RCPT":
                recipient = line.decode().partition("<")[2].partition(">")[0]
                self._say("250 ok")
            elif verb == "DATA":
                self._say("354 go on")
                self._keep(recipient)
                self._say("250 kept")
            elif verb == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _keep(self, recipient: str) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        message = message_from_bytes(b"".join(lines), policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.server.mail.mails.append((recipient, message))

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())
