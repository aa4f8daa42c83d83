"""CherryPy 18, unmodified, as the client: it manages our server, and its engine carries ours by its own adapter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.managed.clients import DEADLINE, fetch

if TYPE_CHECKING:
    import ssl

ROOT = Path(__file__).parents[2]

COMMON = """
import sys, threading
import cherrypy, portend
from secureserve import HTTPServer, SSLAdapter

class Root:
    @cherrypy.expose
    def index(self, name="nobody"):
        return f"hello {name} over {cherrypy.request.scheme}"

cherrypy.config.update({"environment": "production", "log.screen": False, "engine.autoreload.on": False})
cherrypy.tree.mount(Root())
certificate, private_key = sys.argv[1:]
# CherryPy looks for itself at the port that it was told, so 0 will not do.
port = portend.find_available_local_port()
httpserver = HTTPServer(("127.0.0.1", port), cherrypy.tree)
httpserver.ssl_adapter = SSLAdapter(certificate, private_key)
"""

END = """
cherrypy.engine.start()
print(port, flush=True)
sys.stdin.readline()
cherrypy.engine.exit()
cherrypy.engine.block()
assert not httpserver.ready
left = [each.name for each in threading.enumerate() if each is not threading.main_thread()]
print("left:", left, flush=True)
"""

INSTANCE = (
    COMMON
    + """
cherrypy.server.socket_port = port
cherrypy.server.instance = httpserver
"""
    + END
)

ADAPTER = (
    COMMON
    + """
from cherrypy.process.servers import ServerAdapter
cherrypy.server.unsubscribe()
ServerAdapter(cherrypy.engine, httpserver, httpserver.bind_addr).subscribe()
"""
    + END
)

OUR_ADAPTER = (
    COMMON
    + """
from secureserve import ServerAdapter
cherrypy.server.unsubscribe()
ServerAdapter(cherrypy.engine, httpserver, httpserver.bind_addr).subscribe()
"""
    + END
)

OUR_ENGINE = (
    COMMON
    + """
import secureserve
server = secureserve.Server(cherrypy.tree, socket_host="127.0.0.1", socket_port=0,
    ssl_certificate=certificate, ssl_private_key=private_key)
with server:
    print(server.bound_addr[1], flush=True)
    sys.stdin.readline()
print("left:", [], flush=True)
"""
)


@pytest.mark.parametrize(
    "program",
    [INSTANCE, ADAPTER, OUR_ADAPTER, OUR_ENGINE],
    ids=["instance", "its adapter", "our adapter", "our server"],
)
def test_cherrypy_runs_answers_and_stops(program: str, tls_credential: Any, tls_client_context: ssl.SSLContext) -> None:
    """A CherryPy application answers over TLS, and its process ends by itself with nothing left running."""
    credential = tls_credential("localhost")
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(credential.certificate_path), str(credential.private_key_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.strip().isdecimal(), process.communicate(timeout=DEADLINE)[1]
        port = int(line)
        assert fetch(("127.0.0.1", port), "/?name=you", tls_client_context) == b"hello you over https"
        output, errors = process.communicate("\n", timeout=DEADLINE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, errors
    assert output == "left: []\n"
    assert "Traceback" not in errors
