"""What the documentation assumes that a reader has written already, by path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FILES"]

FILES: Final[Mapping[str, str]] = {
    # A terminal shows no progress of curl's either.
    ".curlrc": "silent\nshow-error\n",
    # In place of the DNS server of a zone.
    "bin/nsupdate": """#!/bin/sh
cat >> records
""",
    "app.py": """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\\n"]


app = application
""",
    "shop.py": """
from flask import Flask, url_for

app = Flask(__name__)


@app.get("/")
def index():
    return url_for("index", _external=True) + "\\n"


def create_app():
    return app
""",
    "whoami.py": """
from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def whoami():
    tls = request.environ["secureserve.tls"]
    if not tls.verified:
        return "I do not know you.\\n"
    return f"Hello, {request.environ['SSL_CLIENT_S_DN_CN']}.\\n"
""",
    "mysite/__init__.py": "",
    "mysite/wsgi.py": """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["localhost"], ROOT_URLCONF=__name__, SECRET_KEY="of a test")
urlpatterns = [path("", lambda request: HttpResponse(f"secure: {request.is_secure()}\\n"))]
application = get_wsgi_application()
""",
    "cellar.py": """
import cherrypy


class Root:
    @cherrypy.expose
    def index(self):
        return "hello"


def make():
    cherrypy.server.unsubscribe()
    return cherrypy.Application(Root(), "/")
""",
    "ahoy.py": """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def index(request):
    return PlainTextResponse(f"hello from {request.url.scheme}\\n")


app = Starlette(routes=[Route("/", index)])
""",
}
