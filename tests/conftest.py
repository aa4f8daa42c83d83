"""What every part of this suite shares. Certificates come from the project's own plugin, which is under test too."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(params=["pyopenssl", "builtin"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of a TLS engine; a test that takes it runs once for each."""
    name: str = request.param
    return name


@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
def tls_version(request: pytest.FixtureRequest) -> str:
    """A TLS version that both sides are to speak; a test that takes it runs once for each."""
    name: str = request.param
    return name
