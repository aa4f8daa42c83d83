"""Side-by-side measurements of secureserve and its peers: ``python -m benchmarks``."""
