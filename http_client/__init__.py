"""What requests to other servers share: addresses, TLS and proxies, response bodies, model lists, errors.

It knows only the settings. The import is cheap: httpx is imported with the first client.
"""
