"""The lifecycle: the managed-server API."""
