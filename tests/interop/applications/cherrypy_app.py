"""A CherryPy application, as a WSGI callable."""

from __future__ import annotations

import cherrypy


class Root:
    """The pages."""

    @cherrypy.expose
    def hello(self) -> bytes:
        """Say hello, and over what."""
        cherrypy.response.headers["Content-Type"] = "text/plain"
        return f"hello over {cherrypy.request.wsgi_environ['SSL_PROTOCOL']}\n".encode()

    @cherrypy.expose
    @cherrypy.tools.json_in()
    @cherrypy.tools.json_out()
    def add(self) -> dict[str, int]:
        """Add up what is posted as JSON."""
        return {"sum": sum(cherrypy.request.json["numbers"])}


def make() -> cherrypy.Application:
    """Make the application; CherryPy's own server and log stay out of it."""
    cherrypy.server.unsubscribe()
    cherrypy.config.update({"log.screen": False, "environment": "production"})
    return cherrypy.Application(Root(), "/")
