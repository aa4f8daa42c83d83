"""The threaded core: cheroot's server, request and gateway, fed by the Front."""
