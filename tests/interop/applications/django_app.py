"""Django with its own admin, a database, and one user who may use it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from django.urls import URLPattern, URLResolver

settings.configure(
    ALLOWED_HOSTS=["localhost"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(os.environ["HOME"]) / "db.sqlite3"}},
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
    CSRF_COOKIE_SECURE=True,
    SESSION_COOKIE_SECURE=True,
    SECURE_SSL_REDIRECT=True,
    STATIC_URL="static/",
    USE_TZ=True,
)
django.setup()


from django.contrib import admin  # noqa: E402 - Django is configured first
from django.contrib.auth import get_user_model  # noqa: E402 - Django is configured first
from django.urls import path  # noqa: E402 - Django is configured first


def hello(request: HttpRequest) -> HttpResponse:
    """Say hello, and over what; Django sees that the request is secure."""
    assert request.is_secure()
    return HttpResponse(f"hello over {request.environ['SSL_PROTOCOL']}\n", content_type="text/plain")


urlpatterns: list[URLPattern | URLResolver] = [path("admin/", admin.site.urls), path("hello", hello)]


def make() -> object:
    """Make the database, its user, and the application."""
    call_command("migrate", verbosity=0)
    get_user_model().objects.create_superuser("admin", password="of a test")
    return get_wsgi_application()
