"""Loads what the suites of these tests use.

pytester forgets the modules that a run in this process loaded, and a library that is loaded twice no longer knows its
own classes. What is loaded before the first run stays.
"""

from __future__ import annotations

import http.cookiejar
import http.server
import importlib
import pkgutil
import urllib.request
from typing import Final

import aiohttp
import httpcore
import httpx
import requests
import urllib3

import secureserve.testing

LOADED: Final = (
    http.cookiejar,
    http.server,
    urllib.request,
    aiohttp,
    httpcore,
    httpx,
    requests,
    urllib3,
    *(
        importlib.import_module(f"secureserve.testing.{one.name}")
        for one in pkgutil.iter_modules(secureserve.testing.__path__)
    ),
)
