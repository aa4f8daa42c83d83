"""The engine on pyOpenSSL, which brings its own recent OpenSSL. Only it imports OpenSSL."""
