"""The decoder that unit tests share. Its children start with the first file that needs one, and end with the tests."""

from __future__ import annotations

from media.decoder import Decoder
from sandbox.pool import Sandbox

DECODER = Decoder(Sandbox())
