"""The TLS libraries behind one interface."""
