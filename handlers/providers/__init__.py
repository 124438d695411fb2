"""One prompt for a model of any provider: choosing the provider, reading attachments, and checks before the request.

It stores no session.
"""
