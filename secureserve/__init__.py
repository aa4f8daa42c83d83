"""A TLS-enabled, threaded HTTP server toolkit. The façade: import what you need from here; importing it starts nothing."""
