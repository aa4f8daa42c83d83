"""A Flask application with a form that takes a file, and a download that is made as it goes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from flask import Flask, Response, redirect, request, url_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from werkzeug.wrappers import Response as AnyResponse

app = Flask(__name__)
uploads: dict[str, str] = {}


@app.get("/")
def form() -> str:
    """Show the form."""
    return (
        '<form method="post" enctype="multipart/form-data"><input name="title"><input type="file" name="file"></form>'
    )


@app.post("/")
def upload() -> AnyResponse:
    """Take a file, and redirect to what is known of it."""
    file = request.files["file"]
    digest = hashlib.sha256(file.stream.read()).hexdigest()
    uploads[digest] = f"{request.form['title']}: {file.filename} {digest}"
    return redirect(url_for("shown", digest=digest, _external=True), code=303)


@app.get("/uploads/<digest>")
def shown(digest: str) -> str:
    """Show what is known of a file."""
    return uploads[digest]


@app.get("/download")
def download() -> Response:
    """Send as many lines as are asked for, one at a time."""
    count = int(request.args["lines"])

    def lines() -> Iterator[str]:
        for number in range(count):
            yield f"line {number}\n"

    return Response(lines(), mimetype="text/plain")


@app.get("/hello")
def hello() -> str:
    """Say hello, and over what."""
    return f"hello over {request.environ['SSL_PROTOCOL']}\n"


def make() -> Flask:
    """Make the application."""
    return app
