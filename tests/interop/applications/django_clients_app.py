"""Django that knows its clients by their certificates, with the view that the how-to shows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.docs.blocks import ROOT, blocks

HOW_TO = ROOT / "docs" / "how-to" / "know-your-clients.md"
REMOTE_USER_MIDDLEWARE = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.RemoteUserMiddleware",
)


def make() -> object:
    """Make an application without any middleware."""
    return _made(())


def make_with_users() -> object:
    """Make an application that logs clients in, as the how-to says."""
    return _made(REMOTE_USER_MIDDLEWARE)


def user(request: HttpRequest) -> HttpResponse:
    """Say who is logged in."""
    who: Any = request.user
    return HttpResponse(f"{who.is_authenticated} {who.get_username()}")


def shown_view() -> Any:
    """Return the view in the how-to."""
    block = next(block for block in blocks(HOW_TO) if block.language == "python" and "from django" in block.text)
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(compile(block.text, str(HOW_TO), "exec"), namespace)  # noqa: S102 - it is our own page
    return namespace["whoami"]


def _made(middleware: tuple[str, ...]) -> object:
    settings.configure(
        ALLOWED_HOSTS=["localhost"],
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(os.environ["HOME"]) / "db.sqlite3"}
        },
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
        AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.RemoteUserBackend"],
        MIDDLEWARE=middleware,
        ROOT_URLCONF=__name__,
        SECRET_KEY="of a test",
        USE_TZ=True,
    )
    django.setup()
    if middleware:
        call_command("migrate", verbosity=0)
    return get_wsgi_application()


urlpatterns = [path("", shown_view()), path("user", user)]
