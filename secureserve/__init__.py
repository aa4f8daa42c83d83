"""A TLS-enabled, threaded HTTP server toolkit: the façade. Importing it starts nothing and loads no heavy library."""
