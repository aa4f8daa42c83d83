"""What we present: credentials, the store they are served from, and how they rotate."""
