"""The HTTP transport: an ASGI application in front of `Server`; stdio does not import it.

front            starts the transport from the settings
service          runs uvicorn on its own thread
http_connection  one TCP connection, with limits that hold before a client is authenticated
admission        how many connections may be open
app              the ASGI application: paths, access and sessions
access           tokens, Host and Origin
envelope         the headers of a modern request
posts            POST /mcp and its response, as JSON or as an event stream
streams          messages from any thread to a response
sessions         sessions of the legacy revisions
metrics          Prometheus metrics

It knows the server and HTTP; it knows no tool by name.
"""
