"""Test certificates and servers, without pytest."""
