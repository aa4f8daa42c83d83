"""How we obtain: certificates from an ACME authority (RFC 8555), on the packages acme and josepy."""
