"""A supervisor over small HTTP servers: ``fake_stack.py HOME PORT [broken]``."""

import sys
from pathlib import Path

from deploy.local import home as homes
from deploy.local.parts import Part, http_ok
from deploy.local.supervisor import Supervisor
from schemas.errors import QuanyuError
from schemas.settings import Settings

SERVER = """
import http.server, signal, sys
def stop(*_):
    print("asked to stop", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
handler = http.server.SimpleHTTPRequestHandler
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""
#: It hears the request to stop and goes on.
STUBBORN = SERVER.replace("sys.exit(0)", "pass")


def part(name: str, port: int, source: str = SERVER) -> Part:
    """A part that answers on the port."""
    argv = [sys.executable, "-c", source, str(port)]
    return Part(name, argv, (port,), lambda: http_ok(port, "/"))


def main() -> None:
    """Supervise until SIGTERM."""
    settings = Settings(home=Path(sys.argv[1]), port=int(sys.argv[2]))
    pipeline = [part("worker", settings.port + 1), part("stubborn", settings.port + 2, STUBBORN)]
    if "broken" in sys.argv:
        source = "print('no licence for this town'); raise SystemExit(2)"
        pipeline.append(part("sink", settings.port + 3, source))
    try:
        with homes.owned(settings.home):
            homes.prepare(settings)
            Supervisor(settings, [part("kafka", settings.port)], pipeline).run()
    except QuanyuError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
