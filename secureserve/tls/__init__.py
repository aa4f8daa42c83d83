"""How we speak: policy, engines, and what was negotiated."""
