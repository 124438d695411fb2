"""What all requests to other servers share: addresses, trust and the way out, bodies, and what a refusal means.

A neutral room: it knows settings and nothing else of ours. Importing it costs milliseconds; httpx comes with the first
client.
"""
