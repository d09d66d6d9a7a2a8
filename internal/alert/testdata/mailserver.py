# A mail server for tests, of Debian's python3-aiosmtpd: it takes mail on loopback, asks for what its arguments say, and prints one
# JSON object for each message.
import argparse, asyncio, json, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult

p = argparse.ArgumentParser()
p.add_argument("--cert")
p.add_argument("--key")
p.add_argument("--implicit", action="store_true")
p.add_argument("--user")
p.add_argument("--password")
p.add_argument("--refuse")
a = p.parse_args()


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == a.refuse:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({"tls": session.ssl is not None or a.implicit, "user": session.authenticated and a.user or "", "from": envelope.mail_from,
                          "to": envelope.rcpt_tos, "data": envelope.content.decode("utf-8", "replace")}), flush=True)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    good = data.login == a.user.encode() and data.password == a.password.encode()
    return AuthResult(success=good, handled=False)


async def main():
    context = None
    if a.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(a.cert, a.key)
    options = {}
    if context and not a.implicit:
        options.update(tls_context=context, require_starttls=True)
    if a.user:
        options.update(authenticator=authenticate, auth_required=True, auth_require_tls=not a.implicit)
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Handler(), hostname="mail.example.org", **options), "127.0.0.1", 0,
                                                            ssl=context if a.implicit else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
