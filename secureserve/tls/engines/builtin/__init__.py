"""The engine on the standard library's ssl, on whatever OpenSSL this Python was built with. Only it imports ssl."""
