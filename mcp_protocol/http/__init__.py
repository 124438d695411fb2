"""The protocol over HTTP: a thin layer of ASGI in front of the same `Server` and its queue; stdio imports none of it.

    loop = MainLoop()
    server = Server(info, load_toolbox, load_catalogues, wake=loop.wake, on_idle=loop.work_done)
    service = HttpService(server, HttpOptions(port=8080), wake=loop.wake)
    service.start()
    loop.run(server, service.stop)

service   listens on a socket and runs uvicorn on a thread of its own; `service.address` is (host, port)
app       the ASGI application: who is let in, and which path is what
posts     one POST to /mcp: its checks, and its answer as JSON or as a stream of events
sessions  the clients of the legacy revisions, each with a connection of its own
streams   lines on their way from any thread to a response
guard     tokens, Host and Origin
envelope  what the headers of a modern request must repeat of its body

It knows the server and how to word HTTP; it knows no tool.
"""
